//! Ctrl-C: the run ends early, and what was measured is still printed. A second one ends the process at once.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Interval at which a wait looks whether it was interrupted.
const LOOK_MILLISECONDS: u64 = 20;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Listens for SIGINT and SIGTERM from now on.
pub(crate) fn listen() -> std::io::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down, the second finds it up and ends the process.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(asked))?;
        signal_hook::flag::register(signal, Arc::clone(asked))?;
    }
    Ok(())
}

/// Whether somebody wants the run to end.
pub(crate) fn requested() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}

/// Sleeps, unless somebody wants the run to end. Whether the time passed.
pub(crate) fn sleep(duration: Duration) -> bool {
    let until = Instant::now() + duration;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || requested() {
            return left.is_zero();
        }
        std::thread::sleep(left.min(Duration::from_millis(LOOK_MILLISECONDS)));
    }
}
