use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use super::Format;
use super::layer::dropped_line;

/// The way from any thread to the one that writes. Full, it drops and counts.
#[derive(Clone)]
pub(super) struct Queue {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// What the writer hears.
pub(super) enum Message {
    /// One line, its newline included.
    Line(Vec<u8>),
    /// Answer when everything before is written.
    Flush(SyncSender<()>),
}

impl Queue {
    pub(super) fn start(outputs: Vec<Box<dyn Write + Send>>, format: Format) -> io::Result<Queue> {
        let (sender, receiver) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            receiver,
            dropped: Arc::clone(&dropped),
            outputs,
            format,
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Queue { sender, dropped })
    }

    pub(super) fn push(&self, line: Vec<u8>) {
        match self.sender.try_send(Message::Line(line)) {
            Ok(()) => {}
            // Relaxed: a count that is read now and then.
            Err(TrySendError::Full(_)) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            // The writer lives as long as the process; at its very end lines have no reader.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.sender.send(Message::Flush(done)).is_ok() {
            // An error means that the writer is gone; then there is nothing left to wait for.
            let _ = written.recv();
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(lines: usize) -> (Queue, Receiver<Message>) {
        let (sender, receiver) = sync_channel(lines);
        (
            Queue {
                sender,
                dropped: Arc::new(AtomicU64::new(0)),
            },
            receiver,
        )
    }
}

struct Writer {
    receiver: Receiver<Message>,
    dropped: Arc<AtomicU64>,
    outputs: Vec<Box<dyn Write + Send>>,
    format: Format,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Ok(first) = self.receiver.recv() {
            let mut waiting = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => batch.extend_from_slice(&line),
                    Message::Flush(done) => waiting.push(done),
                }
                next = if batch.len() < BATCH_BYTES {
                    self.receiver.try_recv().ok()
                } else {
                    None
                };
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                batch.extend_from_slice(&dropped_line(self.format, dropped));
            }
            for output in &mut self.outputs {
                // A log that cannot be written must not stop the member, and there is no other place to say so.
                let _ = output.write_all(&batch).and_then(|()| output.flush());
            }
            batch.clear();
            for done in waiting {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }
}

/// Lines that wait for the writer. A burst at start is some hundred; beyond this the disk or terminal behind it hangs.
const LINES_MAX: usize = 8 * 1024;
/// One write call takes about this much.
const BATCH_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_queue_are_counted_and_the_count_is_written() {
        let (sender, receiver) = sync_channel(2);
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = Queue {
            sender,
            dropped: Arc::clone(&dropped),
        };
        for _ in 0..5 {
            queue.push(b"line\n".to_vec());
        }
        drop(queue);
        let file = tempfile::tempfile().expect("a file for the lines");
        let mut reader = file.try_clone().expect("a second handle");
        Writer {
            receiver,
            dropped,
            outputs: vec![Box::new(file)],
            format: Format::Json,
        }
        .run();
        let mut text = String::new();
        io::Seek::rewind(&mut reader).expect("to its start");
        io::Read::read_to_string(&mut reader, &mut text).expect("its text");
        assert_eq!(text.matches("line\n").count(), 2);
        assert!(
            text.contains("\"msg\":\"log lines dropped\",\"count\":3}"),
            "{text}"
        );
    }

    #[test]
    fn flush_returns_after_the_lines_before_it_are_written() {
        let path = tempfile::NamedTempFile::new().expect("a file for the lines");
        let output = path.reopen().expect("a second handle");
        let queue = Queue::start(vec![Box::new(output)], Format::Json).expect("a thread");
        queue.push(b"one\n".to_vec());
        queue.flush();
        assert_eq!(std::fs::read(path.path()).expect("its bytes"), b"one\n");
    }
}
