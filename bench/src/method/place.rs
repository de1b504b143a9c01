//! Where server and generator run. Children inherit the CPUs of the thread that starts them, and Go's GOMAXPROCS follows.

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::record::Placement;

/// The CPUs that this program was allowed when it began.
pub(crate) struct Cpus {
    all: CpuSet,
}

impl Cpus {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn of_this_thread() -> Result<Self> {
        Ok(Self {
            all: sched_getaffinity(None)?,
        })
    }

    /// Runs `start` where servers belong, and this thread where the generator belongs from then on.
    ///
    /// # Errors
    /// Those of `start`, or when a pinned placement has less than two CPUs.
    pub(crate) fn start_server<T>(
        &self,
        placement: Placement,
        start: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let (server, generator) = match placement {
            Placement::Unpinned => (self.all, self.all),
            Placement::Pinned => (self.only(0)?, self.only(1)?),
        };
        sched_setaffinity(None, &server).context("placing the server")?;
        let started = start();
        sched_setaffinity(None, &generator).context("placing the generator")?;
        started
    }

    /// The CPU at that place among those allowed.
    fn only(&self, place: usize) -> Result<CpuSet> {
        ensure!(
            self.all.count() >= 2,
            "the pinned placement needs two CPUs, this program may use {}: try --placements unpinned",
            self.all.count()
        );
        let cpu = (0..CpuSet::MAX_CPU)
            .filter(|cpu| self.all.is_set(*cpu))
            .nth(place)
            .context("counted above")?;
        let mut only = CpuSet::new();
        only.set(cpu);
        Ok(only)
    }
}
