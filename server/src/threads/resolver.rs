use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use basalt_net::peer::{Endpoint, PeerId};
use basalt_net::reactor::Handle;

use crate::config::{Address, Url};

/// Where the members are: looks names up on a thread of its own, as that may take seconds, and keeps what it knew until it knows better.
#[derive(Default)]
pub(super) struct Resolver {
    members: Vec<(PeerId, Vec<Place>)>,
    /// When names are looked up next; `None` if there are none.
    due: Option<Instant>,
    /// A look-up that is under way.
    running: Option<Arc<Answer>>,
    engine: Option<Handle>,
}

/// One peer URL.
struct Place {
    url: Url,
    endpoints: Vec<Endpoint>,
}

type Answer = Mutex<Option<Vec<(Url, Vec<Endpoint>)>>>;

impl Resolver {
    pub(super) fn set_waker(&mut self, engine: Handle) {
        self.engine = Some(engine);
    }

    /// Who they are from now on. Names are looked up with the next `poll`.
    pub(super) fn set(&mut self, members: Vec<(PeerId, Vec<Url>)>, now: Instant) {
        let known = std::mem::take(&mut self.members);
        let known = |url: &Url| {
            let mut places = known.iter().flat_map(|(_, places)| places);
            places
                .find(|place| place.url == *url)
                .map(|place| place.endpoints.clone())
        };
        let place = |url: Url| Place {
            endpoints: literal(&url).or_else(|| known(&url)).unwrap_or_default(),
            url,
        };
        self.members = members
            .into_iter()
            .map(|(peer, urls)| (peer, urls.into_iter().map(place).collect()))
            .collect();
        let has_names = self.names().next().is_some();
        self.due = has_names.then_some(now);
    }

    /// Each member with the addresses of its URLs, in their order.
    pub(super) fn endpoints(&self) -> Vec<(PeerId, Vec<Endpoint>)> {
        let of = |places: &[Place]| {
            places
                .iter()
                .flat_map(|place| place.endpoints.clone())
                .collect()
        };
        self.members
            .iter()
            .map(|(peer, places)| (*peer, of(places)))
            .collect()
    }

    /// Takes what was looked up and begins anew where that is due; true if an address has changed.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let mut has_changed = false;
        if let Some(running) = &self.running {
            let Some(found) = running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
            else {
                return false;
            };
            self.running = None;
            let places = self.members.iter_mut().flat_map(|(_, places)| places);
            for place in places {
                let found = found.iter().find(|(url, _)| *url == place.url);
                // A name server that knows nothing just now does not make an address wrong.
                if let Some((_, endpoints)) = found
                    && !endpoints.is_empty()
                    && *endpoints != place.endpoints
                {
                    place.endpoints = endpoints.clone();
                    has_changed = true;
                }
            }
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = Some(now + LOOK_AGAIN);
            self.start();
        }
        has_changed
    }

    /// When to poll again; what is under way wakes the loop when it is done.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.due.filter(|_| self.running.is_none())
    }

    fn names(&self) -> impl Iterator<Item = &Url> {
        let places = self.members.iter().flat_map(|(_, places)| places);
        places
            .map(|place| &place.url)
            .filter(|url| literal(url).is_none())
    }

    fn start(&mut self) {
        let names: Vec<Url> = self.names().cloned().collect();
        let answer = Arc::<Answer>::default();
        let (given, engine) = (Arc::clone(&answer), self.engine.clone());
        let look_up = move || {
            let found = names.into_iter().map(|url| {
                let addresses = url.resolve();
                (url, addresses.into_iter().map(Endpoint::Tcp).collect())
            });
            let found = found.collect();
            *given.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            if let Some(engine) = engine {
                engine.wake();
            }
        };
        // Without a thread the next look is due in a while, as after any failure.
        if thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(look_up)
            .is_ok()
        {
            self.running = Some(answer);
        }
    }
}

/// What needs no name server.
fn literal(url: &Url) -> Option<Vec<Endpoint>> {
    match url.address() {
        Address::Unix(path) => Some(vec![Endpoint::Unix(PathBuf::from(path))]),
        Address::Tcp { host, port } => {
            let address: IpAddr = host.parse().ok()?;
            Some(vec![Endpoint::Tcp((address, *port).into())])
        }
    }
}

/// Names may come to mean other addresses while the process runs.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<Url> {
        texts
            .iter()
            .map(|text| Url::parse(text).expect("a URL"))
            .collect()
    }

    #[test]
    fn addresses_and_sockets_need_no_look_up() {
        let mut resolver = Resolver::default();
        let now = Instant::now();
        resolver.set(
            vec![(PeerId(1), urls(&["http://127.0.0.1:7", "unix:///a.sock"]))],
            now,
        );
        let expected = vec![
            Endpoint::Tcp(([127, 0, 0, 1], 7).into()),
            Endpoint::Unix("/a.sock".into()),
        ];
        assert_eq!(resolver.endpoints(), [(PeerId(1), expected)]);
        assert_eq!(resolver.wake(), None);
    }

    /// A stalled name server must not hold up the loop, nor take away what was known.
    #[test]
    fn a_name_is_looked_up_beside_the_loop_and_kept() {
        let mut resolver = Resolver::default();
        let now = Instant::now();
        resolver.set(vec![(PeerId(1), urls(&["http://localhost:7"]))], now);
        assert_eq!(resolver.endpoints(), [(PeerId(1), Vec::new())]);
        let mut looks = 0;
        while !resolver.poll(now) {
            thread::yield_now();
            looks += 1;
            assert!(looks < 100_000_000, "localhost has no address");
        }
        let known = resolver.endpoints();
        assert!(
            known[0]
                .1
                .contains(&Endpoint::Tcp(([127, 0, 0, 1], 7).into()))
        );
        resolver.set(
            vec![(
                PeerId(1),
                urls(&["http://localhost:7", "http://127.0.0.1:9"]),
            )],
            now,
        );
        assert!(resolver.endpoints()[0].1.starts_with(&known[0].1));
    }
}
