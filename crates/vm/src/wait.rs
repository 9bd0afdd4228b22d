//! Waiting for what a guest does: the one loop, and how patient it is.

use anyhow::Result;
use std::time::{Duration, Instant};

/// How often a file or a socket is looked at.
pub const POLL: Duration = Duration::from_millis(20);

/// By how much all deadlines are stretched on a slow or busy machine: `FIRSTLIGHT_DEADLINE_SCALE`, a whole number, or 1.
pub fn scale() -> u32 {
    let scale = std::env::var("FIRSTLIGHT_DEADLINE_SCALE").ok();
    scale.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Calls `check` every `poll` until it finds something, and returns that; nothing when `deadline` passes first.
///
/// # Errors
/// Those of `check`, which end the wait.
pub fn until<T>(
    deadline: Instant,
    poll: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    loop {
        // What is there at the deadline still counts.
        let late = Instant::now() > deadline;
        if let Some(found) = check()? {
            return Ok(Some(found));
        }
        if late {
            return Ok(None);
        }
        std::thread::sleep(poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_it_waits_for_or_with_its_deadline() {
        let mut count = 0;
        let mut check = |wanted| {
            count += 1;
            Ok((count == wanted).then_some(count))
        };
        let soon = Instant::now() + Duration::from_secs(60);
        let found = until(soon, Duration::ZERO, || check(3)).expect("no error");
        assert_eq!(found, Some(3));
        let past = Instant::now() - Duration::from_secs(1);
        let found = until(past, Duration::ZERO, || check(9)).expect("no error");
        assert_eq!(found, None);
        assert_eq!(count, 4);
    }
}
