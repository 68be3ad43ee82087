//! Locks, atomics and parking: those that ship, or loom's under `cfg(loom)`, which tries every order in which
//! threads can come and every value that memory may show them.
#![forbid(unsafe_code)]

#[cfg(not(all(loom, test)))]
pub(crate) use self::shipped::*;
#[cfg(all(loom, test))]
pub(crate) use self::tried::*;

#[cfg(not(all(loom, test)))]
mod shipped {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, fence};
    pub(crate) use std::thread::{Thread, current, park, park_timeout};
    pub(crate) use std::time::Instant;

    pub(crate) use parking_lot::{Mutex, Mutex as TryLock, MutexGuard as TryLockGuard};
}

#[cfg(all(loom, test))]
mod tried {
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
    pub(crate) use loom::thread::{Thread, current, park};

    /// loom's, with the functions of `parking_lot`.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("never poisoned")
        }
    }

    /// A lock that others try. loom does not take an attempt and a release for things whose order matters:
    /// here one reads what the other writes, so that it comes to attempts while the lock is held. Neither
    /// shows the other anything that was done before.
    pub(crate) struct TryLock<T> {
        touched: AtomicU64,
        lock: loom::sync::Mutex<T>,
    }

    impl<T> TryLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self { touched: AtomicU64::new(0), lock: loom::sync::Mutex::new(value) }
        }

        pub(crate) fn lock(&self) -> TryLockGuard<'_, T> {
            TryLockGuard { touched: &self.touched, guard: self.lock.lock().expect("never poisoned") }
        }

        pub(crate) fn try_lock(&self) -> Option<TryLockGuard<'_, T>> {
            self.touched.load(Ordering::Relaxed);
            Some(TryLockGuard { touched: &self.touched, guard: self.lock.try_lock().ok()? })
        }

        pub(crate) fn is_locked(&self) -> bool {
            self.try_lock().is_none()
        }
    }

    pub(crate) struct TryLockGuard<'l, T> {
        touched: &'l AtomicU64,
        guard: MutexGuard<'l, T>,
    }

    impl<T> Deref for TryLockGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for TryLockGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    impl<T> Drop for TryLockGuard<'_, T> {
        fn drop(&mut self) {
            self.touched.store(1, Ordering::Relaxed);
        }
    }

    /// The time is over at once.
    pub(crate) fn park_timeout(_: Duration) {}

    /// No time passes: every run of a test is the same.
    pub(crate) struct Instant;

    impl Instant {
        pub(crate) fn now() -> Self {
            Self
        }

        pub(crate) fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }
}
