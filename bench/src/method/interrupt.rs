//! Ctrl-C: the first ends the measuring and keeps what was measured, the second ends the program.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::process;

/// Whether to stop.
#[derive(Clone)]
pub(crate) struct Interrupt {
    /// The signal that came, 0 for none.
    signal: Arc<AtomicI32>,
}

impl Interrupt {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub(crate) fn listen() -> Result<Self> {
        let interrupt = Self {
            signal: Arc::new(AtomicI32::new(0)),
        };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let raised = Arc::clone(&interrupt.signal);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if raised.swap(signal, Ordering::SeqCst) != 0 {
                        process::end_all();
                        std::process::exit(EXIT_BASE + signal);
                    }
                    eprintln!("\nstopping; what was measured is kept. Once more: stop at once");
                }
            })?;
        // A panic aborts: no destructor would end the servers.
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            process::end_all();
            report(panic);
        }));
        Ok(interrupt)
    }

    /// Whether to go on, in the generator's words.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        if self.exit_code().is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The program's exit code once a signal came: 130 for Ctrl-C, as shells expect.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        let signal = self.signal.load(Ordering::SeqCst);
        (signal != 0).then(|| u8::try_from(EXIT_BASE + signal).unwrap_or(u8::MAX))
    }
}

const EXIT_BASE: i32 = 128;
