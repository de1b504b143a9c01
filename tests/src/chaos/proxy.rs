use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Stands before each member's peer port; the others come through it, so it decides what they hear.
pub(super) struct Proxy {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Places of members by the id that their hello names.
    places: Mutex<BTreeMap<u64, usize>>,
    /// By (from, to); what is not there passes.
    faults: Mutex<BTreeMap<(usize, usize), Fault>>,
    is_over: AtomicBool,
}

/// What happens to the bytes of one direction between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They wait, as behind a dead switch.
    Hold,
    /// They come late.
    Late(Duration),
    /// One bit of each piece is another.
    Garble,
    /// The connection ends.
    Break,
}

impl Proxy {
    pub(super) fn new() -> Proxy {
        Proxy {
            shared: Arc::default(),
        }
    }

    /// An address that leads to `peer`, the port of the member at `place`.
    pub(super) fn before(&self, peer: SocketAddr, place: usize) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            for caller in listener.incoming() {
                let shared = Arc::clone(&shared);
                if let Ok(caller) = caller {
                    // An end that fails shows to the members as a broken connection.
                    thread::spawn(move || shared.join(caller, peer, place));
                }
            }
        });
        address
    }

    /// Faults count from now on.
    pub(super) fn know(&self, places: BTreeMap<u64, usize>) {
        *lock(&self.shared.places) = places;
    }

    pub(super) fn set(&self, from: usize, to: usize, fault: Fault) {
        lock(&self.shared.faults).insert((from, to), fault);
    }

    pub(super) fn heal(&self) {
        lock(&self.shared.faults).clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn join(
        self: Arc<Self>,
        mut caller: TcpStream,
        peer: SocketAddr,
        place: usize,
    ) -> io::Result<()> {
        let mut hello = [0; HELLO_BYTES];
        caller.set_read_timeout(Some(Duration::from_secs(5)))?;
        caller.read_exact(&mut hello)?;
        let id = u64::from_le_bytes(
            hello[CALLER_AT..CALLER_AT + 8]
                .try_into()
                .expect("eight bytes"),
        );
        let mut called = TcpStream::connect(peer)?;
        called.write_all(&hello)?;
        for stream in [&caller, &called] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TICK))?;
        }
        let back = (called.try_clone()?, caller.try_clone()?);
        let shared = Arc::clone(&self);
        thread::spawn(move || shared.forward(back, move |from| (place, from), id));
        self.forward((caller, called), move |from| (from, place), id);
        Ok(())
    }

    fn forward(
        &self,
        (mut from, mut to): (TcpStream, TcpStream),
        direction: impl Fn(usize) -> (usize, usize),
        caller: u64,
    ) {
        let mut piece = vec![0; 64 << 10];
        while !self.is_over.load(Ordering::Relaxed) {
            let fault = || {
                let place = *lock(&self.places).get(&caller)?;
                lock(&self.faults).get(&direction(place)).copied()
            };
            match fault() {
                Some(Fault::Break) => break,
                Some(Fault::Hold) => {
                    thread::sleep(TICK);
                    continue;
                }
                _ => {}
            }
            let count = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if is_timeout(&error) => continue,
                Err(_) => break,
            };
            match fault() {
                Some(Fault::Late(time)) => thread::sleep(time),
                Some(Fault::Garble) => piece[count / 2] ^= 4,
                // What was read when the switch died is on its far side.
                _ => {}
            }
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it is held")
}

const TICK: Duration = Duration::from_millis(20);
/// docs/FORMAT.md, "Between members".
const HELLO_BYTES: usize = 64;
const CALLER_AT: usize = 24;
