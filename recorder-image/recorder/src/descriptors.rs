//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Some container runtimes start programs with a soft limit of 1024, a remnant of `select(2)`;
/// a stream needs three, and a viewer one.
///
/// # Errors
/// When the system refuses; the limit is as it was.
pub fn raise() -> std::io::Result<()> {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_as_high_as_the_hard_one() {
        let limits = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(512),
            ..limits
        };
        setrlimit(Resource::Nofile, low).unwrap();
        raise().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, limits.maximum);
    }
}
