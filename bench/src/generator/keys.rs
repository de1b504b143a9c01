//! The names of keys by number, in the order of the numbers.

/// Keys of one size. Eight bytes are the number itself; from 38 on they are names as Kubernetes gives them,
/// `/registry/leases/ns-0000042/00000000000000042017`; sizes between are the number behind a filler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    pub bytes: usize,
    pub count: u32,
}

impl Keys {
    /// Appends the whole key.
    pub(crate) fn push(self, number: u64, out: &mut Vec<u8>) {
        let from = out.len();
        if self.is_name() {
            out.extend_from_slice(PREFIX);
            out.resize(from + PREFIX.len() + NAMESPACE_DIGITS, b'0');
            out.push(b'/');
            out.resize(from + self.bytes, b'0');
        } else {
            out.resize(from + self.bytes, b'k');
        }
        self.patch(number, &mut out[from..]);
    }

    /// Makes another key of this one by writing what differs.
    pub(crate) fn patch(self, number: u64, key: &mut [u8]) {
        assert!(key.len() == self.bytes);
        if self.is_name() {
            digits(
                number / NAMESPACE_KEYS,
                &mut key[PREFIX.len()..PREFIX.len() + NAMESPACE_DIGITS],
            );
            digits(number, &mut key[self.bytes - NUMBER_DIGITS..]);
        } else {
            key[self.bytes - 8..].copy_from_slice(&number.to_be_bytes());
        }
    }

    fn is_name(self) -> bool {
        self.bytes > PREFIX.len() + NAMESPACE_DIGITS + NUMBER_DIGITS
    }
}

fn digits(mut number: u64, places: &mut [u8]) {
    for place in places.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

const PREFIX: &[u8] = b"/registry/leases/ns-";
const NAMESPACE_KEYS: u64 = 1000;

/// Both hold any u32, and what a page asks for beyond it.
const NAMESPACE_DIGITS: usize = 7;
const NUMBER_DIGITS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: usize, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Keys { bytes, count: 1 }.push(number, &mut out);
        out
    }

    #[test]
    fn names_have_the_wanted_size_and_the_order_of_their_numbers() {
        for bytes in [8, 9, 30, 37, 38, 48, 200] {
            let numbers = [
                0,
                1,
                9,
                10,
                999,
                1000,
                1001,
                99_999,
                10_000_000,
                u64::from(u32::MAX),
            ];
            let keys: Vec<_> = numbers.iter().map(|number| key(bytes, *number)).collect();
            assert!(keys.iter().all(|key| key.len() == bytes));
            assert!(keys.is_sorted_by(|a, b| a < b), "{bytes}");
        }
        assert_eq!(
            key(48, 42_017),
            b"/registry/leases/ns-0000042/00000000000000042017"
        );
        assert_eq!(key(8, 258), [0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_patched_key_is_the_one_made_anew() {
        for bytes in [8, 20, 48] {
            let mut patched = key(bytes, 123_456_789);
            Keys { bytes, count: 1 }.patch(42, &mut patched);
            assert_eq!(patched, key(bytes, 42));
        }
    }
}
