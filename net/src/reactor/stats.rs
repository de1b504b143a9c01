use std::sync::atomic::{AtomicU64, Ordering};

/// What one loop has done so far. Written by its thread alone, read by whoever scrapes.
#[derive(Debug, Default)]
pub struct Stats {
    /// Turns of the loop.
    pub turns: Counter,
    /// Connections taken over, whoever accepted them.
    pub opened: Counter,
    /// Connections closed.
    pub closed: Counter,
    /// Read calls that gave bytes.
    pub reads: Counter,
    /// Write calls.
    pub writes: Counter,
    /// Bytes received, framing included.
    pub received_bytes: Counter,
    /// Bytes the sockets took, framing included.
    pub sent_bytes: Counter,
    /// Times that accepting rested because the process was out of descriptors or memory.
    pub accept_pauses: Counter,
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value at some recent moment.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// By the one writing thread only: a load and a store cost less than a locked add.
    pub fn add(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }
}
