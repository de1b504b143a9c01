use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use basalt_engine::disk::{Disk, DiskOp, File, OpId, PAGE_BYTES, Pages};
use basalt_engine::io::{BlockingDisk, DataDir, WalIo, WalIoKind};
use basalt_engine::limits::{WAL_FILL_BYTES, WAL_SEGMENT_BYTES_MIN};

use super::DoctorFailed;

/// A file as large as the log's first segment, filled and without a name.
pub(super) struct Bench {
    dir: DataDir,
    disk: BlockingDisk,
    log: WalIo,
}

/// How long operations took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Latency {
    /// How many.
    pub(super) count: usize,
    /// Half of them took at most this, in microseconds.
    pub(super) p50_us: u32,
    /// All but one in a hundred.
    pub(super) p99_us: u32,
    /// The longest.
    pub(super) max_us: u32,
}

/// Takes the names away that the file needs while it is made.
struct Names(PathBuf);

impl Drop for Names {
    fn drop(&mut self) {
        // Nothing was there before, and who ends here has a worse failure to tell.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    pub(super) fn make(below: &Path) -> Result<Self, DoctorFailed> {
        let path = below.join(format!(".basalt-doctor-{}", process::id()));
        let system = |error: io::Error| DoctorFailed::System {
            path: below.to_owned(),
            error,
        };
        fs::create_dir(&path).map_err(system)?;
        let names = Names(path);
        let dir = DataDir::open(&names.0)?;
        let mut disk = dir.disk();
        disk.perform(DiskOp::Create {
            file: FILE,
            bytes: WAL_SEGMENT_BYTES_MIN,
        })?;
        let log = dir.wal_io(WalIoKind::Auto).map_err(system)?;
        // The open file is known to the disks of this directory from now on, whatever its name.
        drop(names);
        for offset in (0..WAL_SEGMENT_BYTES_MIN).step_by(WAL_FILL_BYTES) {
            disk.perform(write(
                offset,
                Pages::zeroed(WAL_FILL_BYTES / PAGE_BYTES),
                false,
            ))?;
        }
        disk.perform(DiskOp::Sync { file: FILE })?;
        Ok(Self { dir, disk, log })
    }

    pub(super) fn is_direct(&self) -> bool {
        self.dir.is_direct()
    }

    pub(super) fn has_dsync(&self) -> bool {
        self.dir.has_dsync()
    }

    pub(super) fn wal_io(&self) -> WalIoKind {
        self.log.kind()
    }

    /// One durable page after the other, each where the last one ended, as a log with one client does.
    pub(super) fn durable_writes(
        &mut self,
        time: Duration,
        report: &mut dyn FnMut(Duration, &Latency),
    ) -> Result<Latency, DoctorFailed> {
        let log = &mut self.log;
        measure(time, report, |number| {
            log.submit(OpId(number), write(place(number), Pages::zeroed(1), true));
            loop {
                if let Some(done) = log.complete().next() {
                    return Ok(done.result.map(|_| ())?);
                }
                log.wait();
            }
        })
    }

    /// The same with the flush apart.
    pub(super) fn writes_and_syncs(
        &mut self,
        time: Duration,
        report: &mut dyn FnMut(Duration, &Latency),
    ) -> Result<Latency, DoctorFailed> {
        let disk = &mut self.disk;
        measure(time, report, |number| {
            disk.perform(write(place(number), Pages::zeroed(1), false))?;
            disk.perform(DiskOp::Sync { file: FILE })?;
            Ok(())
        })
    }
}

impl Latency {
    fn of(times_us: &mut [u32]) -> Self {
        times_us.sort_unstable();
        let at = |percent: usize| {
            let rank = (times_us.len() * percent).div_ceil(100);
            times_us.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self {
            count: times_us.len(),
            p50_us: at(50),
            p99_us: at(99),
            max_us: at(100),
        }
    }

    pub(super) fn text(&self) -> String {
        let ms = |us: u32| f64::from(us) / 1000.0;
        let (p50, p99, max) = (ms(self.p50_us), ms(self.p99_us), ms(self.max_us));
        let count = self.count;
        format!("p50 {p50:.3} ms, p99 {p99:.3} ms, longest {max:.3} ms ({count} measured)")
    }
}

fn measure(
    time: Duration,
    report: &mut dyn FnMut(Duration, &Latency),
    mut once: impl FnMut(u64) -> Result<(), DoctorFailed>,
) -> Result<Latency, DoctorFailed> {
    let began = Instant::now();
    let (mut times_us, mut reported) = (Vec::new(), Duration::ZERO);
    for number in 0.. {
        let before = Instant::now();
        once(number)?;
        let took = before.elapsed().as_micros();
        times_us.push(u32::try_from(took).unwrap_or(u32::MAX));
        let done = began.elapsed();
        if done >= time {
            break;
        }
        if done - reported >= REPORT_INTERVAL {
            reported = done;
            report(done, &Latency::of(&mut times_us));
        }
    }
    Ok(Latency::of(&mut times_us))
}

fn write(offset: u64, pages: Pages, durable: bool) -> DiskOp {
    DiskOp::Write {
        file: FILE,
        offset,
        pages,
        durable,
    }
}

fn place(number: u64) -> u64 {
    number * PAGE_BYTES as u64 % WAL_SEGMENT_BYTES_MIN
}

const FILE: File = File::Temp(1);

const REPORT_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(WAL_SEGMENT_BYTES_MIN.is_multiple_of(WAL_FILL_BYTES as u64));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut times: Vec<u32> = (1..=200).rev().collect();
        let latency = Latency::of(&mut times);
        assert_eq!(
            (latency.p50_us, latency.p99_us, latency.max_us),
            (100, 198, 200)
        );
        assert_eq!(Latency::of(&mut [7]).p50_us, 7);
        assert_eq!(Latency::of(&mut []), Latency::default());
    }

    /// [DOCTOR-1] A disk is full one day of what tools left on it.
    #[test]
    fn the_file_has_no_name_while_it_is_measured() {
        let temp = tempfile::tempdir().expect("a directory");
        fs::write(temp.path().join("kept"), "kept").expect("room");
        let mut bench = Bench::make(temp.path()).expect("a usable directory");
        let names = || fs::read_dir(temp.path()).expect("listed").count();
        assert_eq!(names(), 1);
        let time = Duration::from_millis(20);
        let written = bench
            .durable_writes(time, &mut |_, _| {})
            .expect("a sound disk");
        let synced = bench
            .writes_and_syncs(time, &mut |_, _| {})
            .expect("a sound disk");
        assert!(written.count > 0);
        assert!(synced.p50_us <= synced.max_us);
        assert_eq!(names(), 1);
    }
}
