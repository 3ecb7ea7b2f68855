//! What a test makes a program do that it never does by itself: a debug build obeys files on its volume. A release build has none
//! of this.

use std::path::Path;

/// In a debug build: `obey` is given what is in a file of the volume, at each change of it. A file that is gone is empty.
#[cfg(debug_assertions)]
pub fn follow(media: &Path, name: &str, mut obey: impl FnMut(&str) + Send + 'static) {
    let file = media.join(name);
    std::thread::spawn(move || {
        let mut before = String::new();
        loop {
            let told = std::fs::read_to_string(&file).unwrap_or_default();
            if told != before {
                tracing::warn!(file = %file.display(), told = told.trim(), "told by a test");
                obey(&told);
                before = told;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn follow(_media: &Path, _name: &str, _obey: impl FnMut(&str) + Send + 'static) {}
