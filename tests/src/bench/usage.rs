//! What processes use, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The unit of times in `/proc/<pid>/stat` (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What one process, or several, used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, in user mode and in the kernel, since its start.
    pub cpu: Duration,
    /// Memory that it has now, bytes.
    pub memory: u64,
    /// The same without what it shares with others, of which it has its part, bytes.
    pub proportional: u64,
}

/// What a process used so far.
pub fn of(pid: u32) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| path)
    };
    Ok(Usage {
        cpu: cpu(&read("stat")?).context("/proc/<pid>/stat cannot be read")?,
        memory: kib(&read("status")?, "VmRSS:").context("no VmRSS")? << 10,
        proportional: kib(&read("smaps_rollup")?, "Pss:").context("no Pss")? << 10,
    })
}

/// What several processes used so far, together.
pub fn sum(pids: &[u32]) -> Result<Usage> {
    pids.iter().try_fold(Usage::default(), |sum, pid| {
        let one = of(*pid)?;
        Ok(Usage {
            cpu: sum.cpu + one.cpu,
            memory: sum.memory + one.memory,
            proportional: sum.proportional + one.proportional,
        })
    })
}

/// Fields 14 and 15, counted from before the name of the program, which may have spaces (proc_pid_stat(5)).
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut ticks = rest.split(' ').skip(11).take(2).map(str::parse::<u32>);
    Some(TICK * (ticks.next()?.ok()? + ticks.next()?.ok()?))
}

fn kib(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_program_is_called() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 1 0 0 0 150 25 3 4 20 0 1 0 9 9 9";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(kib("VmPeak:\t 1 kB\nVmRSS:\t   812 kB\n", "VmRSS:"), Some(812));
    }

    #[test]
    fn this_process_uses_some() {
        let used = of(std::process::id()).unwrap();
        assert!(used.memory > 1 << 20 && used.proportional > 0, "{used:?}");
    }
}
