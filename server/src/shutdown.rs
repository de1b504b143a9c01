//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends the process at once.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::log;
use crate::log::log_contract::RECEIVED_SIGNAL;

/// Whether the process was asked to end; shared by all threads.
#[derive(Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The signal that asked, 0 before.
    signal: AtomicI32,
    /// Threads to wake once it is set. Each is called at most once.
    wakers: Mutex<Vec<Waker>>,
}

type Waker = Box<dyn FnOnce() + Send>;

impl Shutdown {
    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.signal().is_some()
    }

    /// The signal that asked.
    pub fn signal(&self) -> Option<i32> {
        // SeqCst pairs with `request`: a waker that is registered too late finds the signal here.
        Some(self.inner.signal.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }

    /// Calls `wake` when the end is asked for; at once if it was already.
    pub fn on_request(&self, wake: impl FnOnce() + Send + 'static) {
        let mut wakers = self.wakers();
        if self.is_requested() {
            drop(wakers);
            wake();
        } else {
            wakers.push(Box::new(wake));
        }
    }

    /// Asks for the end as this signal would. Only the first call counts.
    pub fn request(&self, signal: i32) {
        if self
            .inner
            .signal
            .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            for wake in std::mem::take(&mut *self.wakers()) {
                wake();
            }
        }
    }

    /// Starts the thread that hears signals. Once, before any other thread could be interrupted.
    pub fn listen(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let shutdown = self.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if shutdown.is_requested() {
                        end_by(signal);
                    }
                    tracing::info!(signal = go_name(signal), "{RECEIVED_SIGNAL}");
                    shutdown.request(signal);
                }
            })?;
        Ok(())
    }

    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        // A waker that panicked leaves a list that is still whole.
        self.inner
            .wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the process as the signal itself would have, so that the parent sees status 128 + n. As the first process of a container
/// it exits with 0, since the kernel does not deliver default actions there; both are what etcd does.
pub fn end_by(signal: i32) -> ! {
    log::flush();
    if std::process::id() == 1 {
        std::process::exit(0);
    }
    // Returns only where the signal could not be raised.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    std::process::exit(128 + signal)
}

/// How Go prints it.
fn go_name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "interrupt",
        SIGTERM => "terminated",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// A thread that went to sleep just before would otherwise never hear of it.
    #[test]
    fn wakers_run_once_whether_they_came_before_or_after_the_request() {
        let shutdown = Shutdown::default();
        let (woken, heard) = channel();
        let early = woken.clone();
        shutdown.on_request(move || early.send("early").expect("heard"));
        assert!(!shutdown.is_requested());
        shutdown.request(SIGTERM);
        shutdown.request(SIGINT);
        shutdown.on_request(move || woken.send("late").expect("heard"));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["early", "late"]);
        assert_eq!(shutdown.signal(), Some(SIGTERM));
    }
}
