//! Who else used the CPUs: all processes but the generator, the servers and the kernel's own threads.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

/// All other processes at one moment.
pub(crate) struct Table {
    at: Instant,
    /// By number and start time: numbers are used again.
    processes: HashMap<(u32, u64), Process>,
}

#[derive(Clone, Debug)]
struct Process {
    parent: u32,
    group: u32,
    name: String,
    is_kernel: bool,
    started: u64,
    /// Ticks of its own, and of children that ended and were waited for.
    own: u64,
    children: u64,
}

/// The busiest of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Busiest {
    /// Name and number.
    pub process: String,
    /// Share of one CPU.
    pub share: f64,
}

impl Table {
    /// Reads /proc. Processes whose group is one of `known` are left out, and this one.
    pub(crate) fn read(known: &[u32]) -> Self {
        let own = std::process::id();
        let mut processes = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(number) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // It may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let Some(process) = Process::parse(&text) else {
                continue;
            };
            if number != own && !process.is_kernel && !known.contains(&process.group) {
                processes.insert((number, process.started), process);
            }
        }
        Self {
            at: Instant::now(),
            processes,
        }
    }

    /// Who used most from `self` to `later`; children that began and ended in between count for their parent.
    pub(crate) fn busiest_until(&self, later: &Table) -> Option<Busiest> {
        let seconds = (later.at - self.at).as_secs_f64();
        // What ended takes all its time, also that from before, to the nearest forefather who lives.
        let mut inherited: HashMap<u32, u64> = HashMap::new();
        let ended: HashMap<u32, &Process> = self
            .processes
            .iter()
            .filter(|(id, _)| !later.processes.contains_key(id))
            .map(|(id, process)| (id.0, process))
            .collect();
        for process in ended.values() {
            let mut heir = process.parent;
            for _ in 0..GENERATIONS_MAX {
                match ended.get(&heir) {
                    Some(parent) => heir = parent.parent,
                    None => break,
                }
            }
            *inherited.entry(heir).or_default() += process.own + process.children;
        }
        let ticks = |(id, process): (&(u32, u64), &Process)| {
            let (own, children) = self
                .processes
                .get(id)
                .map_or((0, 0), |before| (before.own, before.children));
            let inherited = inherited.get(&id.0).copied().unwrap_or(0);
            let from_children = process.children.saturating_sub(children);
            // Orphans' time goes to the first process whoever started them: it says nothing about when.
            let from_children = match id.0 {
                1 => 0,
                _ => from_children.saturating_sub(inherited),
            };
            process.own.saturating_sub(own) + from_children
        };
        let (id, process, ticks) = later
            .processes
            .iter()
            .map(|entry| (entry.0, entry.1, ticks(entry)))
            .max_by_key(|(_, _, ticks)| *ticks)?;
        (ticks > 0 && seconds > 0.0).then(|| Busiest {
            process: format!("{} ({})", process.name, id.0),
            share: ticks as f64 / TICKS_PER_SECOND / seconds,
        })
    }
}

impl Process {
    /// Reads the line of /proc/PID/stat.
    fn parse(text: &str) -> Option<Self> {
        let (begin, rest) = text.rsplit_once(')')?;
        let (_, name) = begin.split_once('(')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let number = |place: usize| words.get(place)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(1)?).ok()?,
            group: u32::try_from(number(2)?).ok()?,
            name: name.to_owned(),
            is_kernel: number(6)? & KERNEL_THREAD != 0,
            own: number(11)? + number(12)?,
            children: number(13)? + number(14)?,
            started: number(19)?,
        })
    }
}

/// The kernel shows times to programs in hundredths of a second on every platform that matters here.
const TICKS_PER_SECOND: f64 = 100.0;
/// Families are shallower; numbers that were used again cannot make it go round for ever.
const GENERATIONS_MAX: usize = 32;
/// `PF_KTHREAD`.
const KERNEL_THREAD: u64 = 0x0020_0000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn table(at: Instant, processes: &[(u32, u32, u64, u64)]) -> Table {
        let one = |&(number, parent, own, children): &(u32, u32, u64, u64)| {
            let process = Process {
                parent,
                group: number,
                name: "p".to_owned(),
                is_kernel: false,
                started: 1,
                own,
                children,
            };
            ((number, 1), process)
        };
        Table {
            at,
            processes: processes.iter().map(one).collect(),
        }
    }

    #[test]
    fn a_process_is_charged_for_its_own_time() {
        let begin = Instant::now();
        let before = table(begin, &[(7, 1, 500, 0), (8, 1, 900, 0)]);
        let after = table(
            begin + Duration::from_secs(1),
            &[(7, 1, 550, 0), (8, 1, 901, 0)],
        );
        let busiest = before.busiest_until(&after).unwrap();
        assert_eq!(busiest.process, "p (7)");
        assert!((busiest.share - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_child_that_ended_brings_only_what_it_used_meanwhile() {
        let begin = Instant::now();
        let before = table(begin, &[(7, 1, 0, 0), (9, 7, 1000, 0)]);
        let after = table(begin + Duration::from_secs(1), &[(7, 1, 0, 1020)]);
        let busiest = before.busiest_until(&after).unwrap();
        assert!((busiest.share - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_family_that_ended_brings_only_what_it_used_meanwhile() {
        let begin = Instant::now();
        let before = table(begin, &[(7, 1, 0, 0), (9, 7, 100, 50), (11, 9, 9000, 0)]);
        let after = table(begin + Duration::from_secs(1), &[(7, 1, 0, 9160)]);
        let busiest = before.busiest_until(&after).unwrap();
        assert!((busiest.share - 0.1).abs() < 1e-9);
    }

    #[test]
    fn an_orphan_that_ended_is_not_charged_to_the_first_process() {
        let begin = Instant::now();
        let before = table(begin, &[(1, 0, 10, 0), (9, 7, 0, 0), (11, 9, 9000, 0)]);
        let after = table(begin + Duration::from_secs(1), &[(1, 0, 10, 9000)]);
        assert_eq!(before.busiest_until(&after), None);
    }

    #[test]
    fn a_name_with_brackets_and_blanks_is_read() {
        let text = "12 (a) b) c) S 3 4 5 6 7 2097152 0 0 0 0 10 20 30 40 20 0 1 0 777 1 2 3";
        let process = Process::parse(text).unwrap();
        assert_eq!(process.name, "a) b) c");
        assert!(process.is_kernel);
        assert_eq!((process.own, process.children), (30, 70));
        assert_eq!(process.started, 777);
    }
}
