//! The links between members: every message travels alone, and some do not arrive, arrive twice or arrive spoilt.

use fastrand::Rng;

use super::plan::Settings;

/// All directed links.
#[derive(Debug)]
pub struct Network {
    /// How many cuts each link has; `links[from][to]`.
    cuts: Vec<Vec<u32>>,
    /// Of 1,000: lost, sent twice, spoilt.
    permille: [u16; 3],
    mean_us: u64,
    slower: u64,
    rng: Rng,
    /// What happened to messages.
    pub tally: Tally,
}

/// What happened to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent.
    pub sent: u64,
    /// Not delivered.
    pub lost: u64,
    /// Delivered twice.
    pub doubled: u64,
    /// Delivered with a bit flipped.
    pub spoilt: u64,
}

impl Network {
    /// Links as the settings say.
    #[must_use]
    pub fn new(settings: &Settings, rng: Rng) -> Self {
        let members = usize::from(settings.members);
        Self {
            cuts: vec![vec![0; members]; members],
            permille: settings.link_permille,
            mean_us: settings.link_us,
            slower: 1,
            rng,
            tally: Tally::default(),
        }
    }

    /// Sends a message: when each copy of it arrives, in microseconds from now, whether it is spoilt, and its bytes.
    pub fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) -> Vec<(u64, bool, Vec<u8>)> {
        self.tally.sent += 1;
        let mut happens = |permille: u16| self.rng.u16(0..1000) < permille;
        let [lost, doubled, spoilt] = self.permille.map(&mut happens);
        if self.cuts[from][to] > 0 || lost {
            self.tally.lost += 1;
            return Vec::new();
        }
        let mut copies = vec![bytes];
        if doubled {
            self.tally.doubled += 1;
            copies.push(copies[0].clone());
        }
        let spoilt = spoilt && !copies[0].is_empty();
        if spoilt {
            self.tally.spoilt += 1;
            let at = self.rng.usize(..copies[0].len());
            copies[0][at] ^= 1 << self.rng.u8(0..8);
        }
        let copies = copies.into_iter().enumerate();
        let arrives = |(copy, bytes)| (self.delay_us(), spoilt && copy == 0, bytes);
        copies.map(arrives).collect()
    }

    /// Cuts links, or mends them again. A link that was cut twice must be mended twice.
    pub fn cut(&mut self, from: u8, to: u8, both_ways: bool, is_cut: bool) {
        for a in 0..self.cuts.len() {
            for b in 0..self.cuts.len() {
                let forth = from >> a & 1 == 1 && to >> b & 1 == 1;
                let back = both_ways && from >> b & 1 == 1 && to >> a & 1 == 1;
                if a != b && (forth || back) {
                    let cuts = &mut self.cuts[a][b];
                    *cuts = if is_cut {
                        *cuts + 1
                    } else {
                        cuts.saturating_sub(1)
                    };
                }
            }
        }
    }

    /// Makes all links better or worse.
    pub fn set_noise(&mut self, permille: [u16; 3], slower: u64) {
        (self.permille, self.slower) = (permille, slower);
    }

    /// Mends everything.
    pub fn heal(&mut self) {
        self.set_noise([0; 3], 1);
        self.cuts.iter_mut().flatten().for_each(|cuts| *cuts = 0);
    }

    /// Most messages are quick, a few take long: so they overtake each other.
    fn delay_us(&mut self) -> u64 {
        let mean = (self.mean_us * self.slower) as f64;
        let exponential = -(1.0 - self.rng.f64()).ln();
        1 + (mean * exponential).min(10.0 * mean) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Plan, Wish};
    use super::*;

    fn network() -> Network {
        let settings = Plan::draw(1, Wish { members: 3 }).settings;
        let mut network = Network::new(&settings, Rng::with_seed(1));
        network.heal();
        network
    }

    fn arrives(network: &mut Network, from: usize, to: usize) -> bool {
        !network.send(from, to, vec![1]).is_empty()
    }

    /// A one-way cut must let the other direction through, and two cuts need two mendings.
    #[test]
    fn links_are_cut_by_direction() {
        let mut network = network();
        network.cut(0b001, 0b110, false, true);
        assert!(!arrives(&mut network, 0, 1));
        assert!(arrives(&mut network, 1, 0));
        assert!(arrives(&mut network, 1, 2));
        network.cut(0b001, 0b010, true, true);
        network.cut(0b001, 0b110, false, false);
        assert!(!arrives(&mut network, 0, 1));
        assert!(!arrives(&mut network, 1, 0));
        assert!(arrives(&mut network, 0, 2));
        network.heal();
        assert!(arrives(&mut network, 0, 1));
    }

    #[test]
    fn noise_loses_doubles_and_spoils() {
        let mut network = network();
        network.set_noise([300, 300, 300], 1);
        let mut arrived = 0;
        for _ in 0..1000 {
            arrived += network.send(0, 1, vec![0; 8]).len() as u64;
        }
        let Tally {
            sent,
            lost,
            doubled,
            spoilt,
        } = network.tally;
        assert_eq!(arrived, sent - lost + doubled);
        assert!(lost > 200 && doubled > 100 && spoilt > 100);
    }
}
