use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::limits::{PEER_BACKOFF_MAX, PEER_STRANGERS_MAX, PEER_UNLISTED_MAX};

const SILENCE: Duration = Duration::from_millis(800);

/// Members joined by wires that lose nothing unless they are cut.
struct World {
    now: Instant,
    members: Vec<Peers>,
    wires: Vec<Wire>,
    /// Who is not reachable by a dial.
    dead: Vec<usize>,
}

/// Ends as (member, connection).
struct Wire {
    a: (usize, ConnId),
    b: (usize, ConnId),
    /// Carries nothing any more, and says nothing about it.
    is_cut: bool,
}

fn config(me: u64, session: u64) -> PeersConfig {
    PeersConfig {
        cluster: 77,
        me: PeerId(me),
        session,
        release: Release([0, 1, 2]),
        message_bytes_max: 1 << 20,
        silence_max: SILENCE,
    }
}

/// The socket's name is the member's place.
fn roster(count: u64) -> Roster {
    let member = |id: u64| {
        (
            PeerId(id),
            vec![Endpoint::Unix((id - 1).to_string().into())],
        )
    };
    Roster {
        members: (1..=count).map(member).collect(),
        removed: Vec::new(),
    }
}

impl World {
    fn new(count: u64) -> World {
        let now = Instant::now();
        let members = (1..=count).map(|id| {
            let mut peers = Peers::new(config(id, id));
            peers.set_roster(roster(count), now);
            peers
        });
        World {
            now,
            members: members.collect(),
            wires: Vec::new(),
            dead: Vec::new(),
        }
    }

    fn connect(&mut self) {
        for from in 0..self.members.len() {
            while let Some((id, endpoint)) = self.members[from].poll_dial(self.now) {
                let Endpoint::Unix(path) = endpoint else {
                    panic!("a socket's name")
                };
                let to: usize = path.to_str().expect("a number").parse().expect("a number");
                let is_dead = self.dead.contains(&to) || self.dead.contains(&from);
                let accepted = if is_dead {
                    None
                } else {
                    self.members[to].accept(self.now)
                };
                match accepted {
                    Some(accepted) => self.wires.push(Wire {
                        a: (from, id),
                        b: (to, accepted),
                        is_cut: false,
                    }),
                    None => self.members[from].closed(id, Gone::Refused, self.now),
                }
            }
        }
    }

    /// Everything that can move does, without time passing.
    fn settle(&mut self) {
        loop {
            self.connect();
            let mut has_moved = false;
            for member in &mut self.members {
                member.on_turn(self.now);
                while member.take_dirty().is_some() {}
            }
            let mut ended = Vec::new();
            for (at, wire) in self.wires.iter().enumerate() {
                for (from, to) in [(wire.a, wire.b), (wire.b, wire.a)] {
                    let (slices, count) = self.members[from.0].gather(from.1);
                    let bytes: Vec<u8> =
                        slices[..count].iter().flat_map(|it| it.to_vec()).collect();
                    self.members[from.0].advance(from.1, bytes.len());
                    has_moved |= !bytes.is_empty();
                    let heard = match wire.is_cut {
                        true => Received::Fine,
                        false => self.members[to.0].recv(to.1, &bytes, self.now),
                    };
                    if heard == Received::Close || self.members[from.0].is_over(from.1) {
                        ended.push(at);
                    }
                }
            }
            for place in 0..self.members.len() {
                while let Some(id) = self.members[place].take_closing() {
                    let at = self
                        .wires
                        .iter()
                        .position(|it| it.a == (place, id) || it.b == (place, id));
                    ended.extend(at);
                }
            }
            ended.sort_unstable();
            ended.dedup();
            has_moved |= !ended.is_empty();
            for at in ended.into_iter().rev() {
                self.end(at);
            }
            if !has_moved {
                return;
            }
        }
    }

    fn end(&mut self, at: usize) {
        let wire = self.wires.remove(at);
        for (place, id) in [wire.a, wire.b] {
            self.members[place].closed(id, Gone::Ended, self.now);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(10);
            self.settle();
        }
    }

    fn kill(&mut self, place: usize) {
        self.dead.push(place);
        while let Some(at) = self
            .wires
            .iter()
            .position(|it| it.a.0 == place || it.b.0 == place)
        {
            self.end(at);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: &[u8]) -> bool {
        self.members[from].send(PeerId(to as u64 + 1), Class::Bulk, |out| {
            out.extend_from_slice(message);
        })
    }

    fn heard(&mut self, place: usize) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        self.members[place].take_messages(|from, message| all.push((from.0, message.to_vec())));
        all
    }

    fn events(&mut self, place: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.members[place].poll_event()).collect()
    }

    fn is_up(&self, from: usize, to: usize) -> bool {
        self.members[from].is_up(PeerId(to as u64 + 1))
    }
}

#[test]
fn members_find_each_other_and_messages_arrive_in_order() {
    let mut world = World::new(3);
    world.settle();
    let big = vec![5; 300_000];
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            assert!(world.send(from, to, b"first"));
            assert!(world.send(from, to, &big));
            assert!(world.send(from, to, b"last"));
        }
    }
    world.settle();
    for to in 0..3 {
        let heard = world.heard(to);
        assert_eq!(heard.len(), 6);
        for from in (0..3).filter(|from| *from != to) {
            let of: Vec<&[u8]> = heard
                .iter()
                .filter(|(peer, _)| *peer == from as u64 + 1)
                .map(|(_, message)| &message[..])
                .collect();
            assert_eq!(of, [b"first", &big[..], b"last"]);
        }
    }
}

/// Half-open: the other end vanished without a word, or a firewall forgot the connection.
#[test]
fn a_silent_connection_is_given_up_and_dialed_again() {
    let mut world = World::new(2);
    world.settle();
    assert!(world.is_up(0, 1));
    world.pass(SILENCE * 3);
    assert!(world.is_up(0, 1), "pings keep an idle connection");
    world.wires.iter_mut().for_each(|wire| wire.is_cut = true);
    world.events(0);
    world.pass(SILENCE + SILENCE / 4);
    assert!(world.events(0).contains(&Event::Down(PeerId(2))));
    assert!(world.is_up(0, 1), "a new connection works");
    world.send(0, 1, b"again");
    world.settle();
    assert_eq!(world.heard(1), [(1, b"again".to_vec())]);
}

/// A killed process refuses at once; whoever waits for its heartbeats need not wait longer.
#[test]
fn a_killed_member_shows_at_once_and_is_dialed_with_pauses() {
    let mut world = World::new(2);
    world.settle();
    world.events(0);
    world.kill(1);
    world.settle();
    let refused = Event::Unreachable {
        peer: PeerId(2),
        refused: true,
    };
    assert_eq!(world.events(0)[..2], [Event::Down(PeerId(2)), refused]);
    assert!(!world.send(0, 1, b"lost"));
    world.pass(Duration::from_secs(10));
    let dials = world.events(0).len();
    assert!((10..30).contains(&dials), "{dials} dials in 10 s");
    world.dead.clear();
    world.pass(PEER_BACKOFF_MAX);
    assert!(world.is_up(0, 1));
}

/// Its machine lost power and came back: nobody told us that the old connection is dead.
#[test]
fn a_restarted_member_takes_over_from_its_earlier_process() {
    let mut world = World::new(2);
    world.settle();
    world.wires.iter_mut().for_each(|wire| wire.is_cut = true);
    let mut reborn = Peers::new(config(2, 99));
    // The old wire's end must not name a new connection.
    reborn.next_id = 1000;
    reborn.set_roster(roster(2), world.now);
    world.members[1] = reborn;
    world.settle();
    assert!(world.send(0, 1, b"new"));
    world.settle();
    assert_eq!(world.heard(1), [(1, b"new".to_vec())]);
}

#[test]
fn a_member_that_moved_is_reached_at_its_new_address() {
    let mut world = World::new(3);
    world.dead.push(1);
    world.settle();
    assert!(!world.is_up(0, 1));
    // It answers at the third one's address from now on.
    let mut moved = roster(3);
    moved.members[1].1 = vec![Endpoint::Unix("2".into())];
    moved.members.pop();
    world.members[2] = Peers::new(config(2, 5));
    world.members[0].set_roster(moved, world.now);
    world.settle();
    assert!(world.is_up(0, 1));
}

/// The answer must be able to come back although the caller's joining is not known here yet.
#[test]
fn a_member_that_is_not_listed_yet_is_heard_and_answered() {
    let mut world = World::new(2);
    world.members[0].set_roster(Roster::default(), world.now);
    world.settle();
    assert!(world.send(1, 0, b"append"));
    world.settle();
    assert_eq!(world.heard(0), [(2, b"append".to_vec())]);
    assert!(world.send(0, 1, b"ack"));
    world.settle();
    assert_eq!(world.heard(1), [(1, b"ack".to_vec())]);
}

#[test]
fn strangers_and_the_removed_hear_why_they_are_refused() {
    for (mut caller, removed, expected) in [
        (config(2, 2), vec![PeerId(2)], Verdict::Removed),
        (config(2, 2), Vec::new(), Verdict::OtherCluster),
        (config(1, 2), Vec::new(), Verdict::OtherMember),
    ] {
        let mut world = World::new(2);
        if expected == Verdict::OtherCluster {
            caller.cluster = 1;
        }
        world.members[1] = Peers::new(caller);
        world.members[1].set_roster(roster(if caller.me.0 == 1 { 2 } else { 1 }), world.now);
        let mut known = roster(1);
        known.removed = removed;
        world.members[0].set_roster(known, world.now);
        if expected == Verdict::OtherMember {
            // It means the second member and reaches the first.
            world.members[1].set_roster(
                Roster {
                    members: vec![(PeerId(2), vec![Endpoint::Unix("0".into())])],
                    removed: Vec::new(),
                },
                world.now,
            );
        }
        world.settle();
        let refused = Event::Refused {
            peer: caller.me,
            verdict: expected,
        };
        assert_eq!(world.events(0), [refused]);
        let heard = world.events(1);
        assert!(
            matches!(heard[..], [Event::RefusedBy { verdict, .. }] if verdict == expected),
            "{heard:?}"
        );
        world.send(1, 0, b"x");
        world.settle();
        assert!(world.heard(0).is_empty());
    }
}

/// Whoever connects and says nothing, or claims ids that nobody knows, must not use up the member.
#[test]
fn callers_that_are_no_members_are_bounded() {
    let mut world = World::new(2);
    let peers = &mut world.members[0];
    let silent: Vec<ConnId> = (0..1000).map_while(|_| peers.accept(world.now)).collect();
    assert_eq!(silent.len(), PEER_STRANGERS_MAX);
    peers.on_turn(world.now + SILENCE);
    let closing: Vec<ConnId> = std::iter::from_fn(|| peers.take_closing()).collect();
    assert_eq!(closing.len(), PEER_STRANGERS_MAX);
    for id in closing {
        peers.closed(id, Gone::Ended, world.now);
    }
    let mut open = 0;
    for claimed in 0..100 {
        let id = peers.accept(world.now).expect("room");
        let caller = Peers::new(PeersConfig {
            me: PeerId(1000 + claimed),
            ..config(1, 1)
        });
        peers.recv(
            id,
            &caller.hello(PeerId(1), Verdict::Welcome).encode(),
            world.now,
        );
        open += usize::from(!peers.is_over(id));
        let (slices, count) = peers.gather(id);
        let written = slices[..count].iter().map(|slice| slice.len()).sum();
        peers.advance(id, written);
        if peers.is_over(id) {
            open -= 1;
            peers.closed(id, Gone::Ended, world.now);
        }
    }
    assert_eq!(open, PEER_UNLISTED_MAX);
}

proptest! {
    #[test]
    fn hostile_ends_break_nothing(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz::peer_link(&data);
    }
}
