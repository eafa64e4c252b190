//! Raises the limit of open files and connections. The limits of connections derive from it: a flood of a port must hit our limits before
//! the kernel's, which would affect everything else that the process does.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The value used if the kernel has no limit; more is never needed.
const PLENTY: u64 = 1 << 20;

/// Raises the limit as far as this process may, and returns it. Idempotent.
pub fn raise_open_files() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let most = limits.maximum.unwrap_or(PLENTY).min(PLENTY);
    let now = limits.current.unwrap_or(PLENTY);
    if now >= most {
        return now.min(PLENTY);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limits.maximum }) {
        Ok(()) => most,
        // Some sandboxes forbid it; the current limit is sufficient.
        Err(_) => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let raised = raise_open_files();
        assert!(raised >= 64);
        assert_eq!(raise_open_files(), raised);
    }
}
