//! A disk of one's own: an ext4 file system in a file, so that a sync writes the bytes of one recorder alone, and a power cut can
//! be had without a machine that loses its power.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: what is not synced is gone.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A mounted disk; unmounted and removed with this value.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// Makes a disk of so many bytes and mounts it on a folder, which is made. The file is beside the folder.
    pub fn mount(folder: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let disk = Self {
            image: folder.with_extension("disk"),
            folder: folder.to_owned(),
        };
        std::fs::File::create(&disk.image)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").arg("-qF").arg(&disk.image))?;
        disk.attach()?;
        Ok(disk)
    }

    fn attach(&self) -> Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.folder))
    }

    /// Cuts its power and gives it back: what was not synced is gone. Whoever wrote to it has to be dead.
    pub fn lose_power(&self) -> Result<()> {
        run(Command::new("/usr/bin/python3")
            .args(["-c", SHUTDOWN])
            .arg(&self.folder))?;
        run(Command::new("umount").arg(&self.folder))?;
        self.attach()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever was just killed may still be about to close its files.
        if let Err(error) = run(Command::new("umount").arg("--lazy").arg(&self.folder)) {
            eprintln!("{error:#}");
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", program.display(), said.trim());
    Ok(())
}
