//! What threads share state by: the atomics, locks and swapped pointers of the engine, in one place.
//!
//! Under the feature `shuttle` they are those of the race checker, which runs the threads of a test one
//! at a time and decides at each of these operations who goes on (`tests/races.rs`). A type that is not
//! taken from here is invisible to it.

#[cfg(not(feature = "shuttle"))]
pub(crate) use {
    arc_swap::{ArcSwap, ArcSwapOption},
    parking_lot::Mutex,
    std::hint::spin_loop,
    std::sync::atomic,
};

#[cfg(feature = "shuttle")]
pub(crate) use {
    checked::{ArcSwap, ArcSwapOption},
    shuttle::hint::spin_loop,
    shuttle::sync::atomic,
    shuttle_parking_lot::Mutex,
};

/// `arc_swap` has no counterpart in the checker: a point at which another thread may run goes before
/// each of its operations, which are atomic then as they are without it.
#[cfg(feature = "shuttle")]
mod checked {
    use std::fmt;
    use std::sync::Arc;

    use arc_swap::Guard;
    use shuttle::thread::yield_now;

    pub(crate) struct ArcSwap<T>(arc_swap::ArcSwap<T>);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            ArcSwap(arc_swap::ArcSwap::from_pointee(value))
        }

        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            yield_now();
            self.0.load()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            yield_now();
            self.0.load_full()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            yield_now();
            self.0.store(value);
        }
    }

    impl<T: fmt::Debug> fmt::Debug for ArcSwap<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    pub(crate) struct ArcSwapOption<T>(arc_swap::ArcSwapOption<T>);

    impl<T> ArcSwapOption<T> {
        pub(crate) fn empty() -> Self {
            ArcSwapOption(arc_swap::ArcSwapOption::empty())
        }

        pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
            yield_now();
            self.0.load()
        }

        pub(crate) fn load_full(&self) -> Option<Arc<T>> {
            yield_now();
            self.0.load_full()
        }

        pub(crate) fn compare_and_swap(
            &self,
            current: &Option<Arc<T>>,
            new: Option<Arc<T>>,
        ) -> Guard<Option<Arc<T>>> {
            yield_now();
            self.0.compare_and_swap(current, new)
        }
    }

    impl<T: fmt::Debug> fmt::Debug for ArcSwapOption<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }
}
