//! One run from the first connection to the last check; `capacity` and `overload` are made of several stretches of it.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::beside::Ended;
use super::driver::{Driver, Part, Phase};
use super::judge::{DIGEST_BEGIN, FirstAfter, Tally};
use super::pace::Pace;
use super::recorder::Recorder;
use super::told::Told;
use super::watchers::Watchers;
use super::workload::{Ask, Workload};
use super::{Data, Progress, Time};
use crate::cost::{Counters, Meter};
use crate::plan::{Action, Load, Shape, Watching};
use crate::record::{Beside, Cost, Expiry, Verified};

/// A server under this generator.
pub(crate) struct Session<'a> {
    driver: Driver,
    meter: &'a Meter,
    pub(super) load: &'a Load,
    seed: u64,
    progress: Progress<'a>,
    /// Seconds that the run will take in all, roughly, and those that have passed of them; for the progress only.
    foretold: f64,
    passed: f64,
    /// Of verifying, and of loading.
    keys_seconds: f64,
    load_seconds: f64,
    /// What loading leaves of history.
    revisions: u16,
    is_compacted: bool,
    /// On the driver's clock, when the last measured time began.
    measured_from: u64,
    /// Seconds on the driver's clock of the first renewal and the last before leases were left alone.
    renewed: Range<f64>,
    /// The store's revision and the tally before the first counted operation.
    revision: i64,
    tally: Tally,
}

/// How operations are started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// Each stream starts its next operation when the last one ended: shows capacity.
    Closed,
    /// So many a second, answered or not: shows latency.
    Open { per_second: f64 },
}

/// One stretch of a run: a warm-up and a measured time at one pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub name: &'static str,
    pub start: Start,
    pub time: Time,
    /// Whether the recorder keeps latencies by when they were due, too.
    pub by_window: bool,
}

/// What one stretch found.
pub(crate) struct Outcome {
    /// Since the epoch, when the measured time began.
    pub began: Duration,
    pub elapsed: Duration,
    pub cost: Cost,
    /// Of warm-up and measured time together, and of draining.
    pub tally: Tally,
    before: Tally,
    /// Answers of the measured time, whenever they were due.
    pub answered: u64,
    /// Operations that became due in the measured time of an open loop and were begun or counted as failed.
    pub offered: u64,
    /// Bytes of values in those answers.
    pub value_bytes: u64,
}

impl<'a> Session<'a> {
    /// Connects. `foretold` are the seconds of all stretches together.
    ///
    /// # Errors
    /// When the server does not take a connection.
    pub(crate) fn new(
        endpoint: SocketAddr,
        meter: &'a Meter,
        load: &'a Load,
        shape: &Shape,
        foretold: f64,
        progress: Progress<'a>,
    ) -> Result<Self> {
        let keys_seconds = 0.2 + f64::from(shape.keys) / KEYS_PER_SECOND;
        let load_seconds = keys_seconds * f64::from(shape.revisions);
        Ok(Self {
            driver: Driver::new(endpoint, load, Workload::new(shape))?,
            meter,
            load,
            seed: shape.seed,
            progress,
            foretold: foretold + load_seconds + keys_seconds,
            passed: 0.0,
            keys_seconds,
            load_seconds,
            revisions: shape.revisions,
            is_compacted: shape.compacted,
            measured_from: 0,
            renewed: 0.0..0.0,
            revision: 0,
            tally: Tally::default(),
        })
    }

    /// Sees to it that the keys are there.
    ///
    /// # Errors
    /// When they are not, or the connection fails.
    pub(crate) fn begin(&mut self, data: Data) -> Result<()> {
        let part = self.part("load", self.load_seconds);
        match data {
            Data::Load => {
                self.load(part)?;
                self.begin_leases()?;
            }
            Data::Loaded if self.driver.judge.workload.needs_revisions() => {
                self.go(Phase::Pages { next: 0 }, None, part)?;
            }
            Data::Loaded => {}
        }
        self.revision = self.ask_revision()?;
        let tally = &self.driver.judge.tally;
        ensure!(
            tally.failed() == 0 && tally.wrong == 0,
            "loading failed: {} wrong answers, failures {:?}",
            tally.wrong,
            tally.failures
        );
        self.tally = tally.clone();
        Ok(())
    }

    /// Grants leases and puts keys on them; if they are to end, renews them all so that they do so together.
    fn begin_leases(&mut self) -> Result<()> {
        if self.driver.judge.workload.leases.count == 0 {
            return Ok(());
        }
        let part = self.part("leases", 0.0);
        self.go(Phase::Grant { next: 0 }, None, part)?;
        self.go(Phase::Attach { next: 0 }, None, part)?;
        if self.load.beside == Some(Action::Expire) {
            let began = self.driver.now() as f64 / 1e9;
            self.go(Phase::Renew { next: 0 }, None, part)?;
            self.renewed = began..self.driver.now() as f64 / 1e9;
        }
        Ok(())
    }

    /// When the leases were gone that nobody renewed, if that was waited for.
    ///
    /// # Errors
    /// One ended early, or they never were gone.
    pub(crate) fn expiry(&mut self, counts: &[Beside]) -> Result<Option<Expiry>> {
        if self.load.beside != Some(Action::Expire) {
            return Ok(None);
        }
        let from = self.measured_from as f64 / 1e9;
        let renewed = self.renewed.start - from..self.renewed.end - from;
        let leases = self.driver.judge.workload.leases;
        leases.expiry(renewed, counts).map(Some)
    }

    /// Changes that nobody acknowledges: each lease that ends is one.
    fn ended_leases(&self) -> i64 {
        match self.load.beside {
            Some(Action::Expire) => i64::from(self.driver.judge.workload.leases.count),
            Some(Action::Revoke) => 1,
            _ => 0,
        }
    }

    fn load(&mut self, part: Part) -> Result<()> {
        for _ in 0..self.revisions {
            self.go(Phase::Load { next: 0 }, None, part)?;
        }
        if self.is_compacted {
            self.once(Ask::Compact)?;
            let ended = std::mem::take(&mut self.driver.judge.beside);
            let failure = ended.into_iter().find_map(|ended| ended.failure);
            ensure!(failure.is_none(), "compacting failed: {failure:?}");
        }
        Ok(())
    }

    fn once(&mut self, ask: Ask) -> Result<()> {
        let part = self.part("once", 0.0);
        let is_asked = false;
        self.go(Phase::Once { ask, is_asked }, None, part)
    }

    /// Warms up and measures; what is unanswered at the end is left so.
    ///
    /// # Errors
    /// When the connection fails or the server stops answering.
    pub(crate) fn stretch(&mut self, stretch: Stretch) -> Result<Outcome> {
        let Time { warmup, measured } = stretch.time;
        let before = self.driver.judge.tally.clone();
        let now = self.driver.now();
        let phase = match stretch.start {
            Start::Closed => Phase::Closed {
                streams: usize::from(self.load.streams),
            },
            Start::Open { per_second } if self.load.poisson => {
                Phase::Open(Pace::poisson(per_second, now, self.seed))
            }
            Start::Open { per_second } => Phase::Open(Pace::even(per_second, now)),
        };
        let is_mixed = self.driver.judge.workload.is_mixed();
        let is_open = matches!(stretch.start, Start::Open { .. });
        let recorder = Recorder::new(is_mixed, stretch.by_window);
        self.driver.judge.listen(recorder, is_open);
        let part = self.part(stretch.name, warmup.as_secs_f64());
        self.go(phase, Some(now + warmup.as_nanos() as u64), part)?;

        let at_begin = self.meter.read()?;
        // The warm-up may have ended late, in the middle of a long turn.
        let begins = self.driver.now();
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let ends = begins + measured.as_nanos() as u64;
        let (good, offered) = (self.driver.judge.tally.good, self.offered());
        let value_bytes = self.driver.judge.tally.value_bytes;
        self.driver.judge.measured = begins..ends;
        self.measured_from = begins;
        self.driver.set_beside(Some(begins));
        self.begin_watching(begins..ends);
        let part = self.part(stretch.name, measured.as_secs_f64());
        self.driver.resume(Some(ends), part, self.progress)?;
        self.driver.set_beside(None);
        let at_end = self.meter.read()?;
        let judge = &self.driver.judge;
        Ok(Outcome {
            began,
            elapsed: measured,
            cost: Counters::until(&at_begin, &at_end),
            tally: judge.tally.since(&before),
            before,
            answered: judge.tally.good - good,
            offered: self.offered() - offered,
            value_bytes: judge.tally.value_bytes - value_bytes,
        })
    }

    /// Waits for the answers that are still to come, and completes the outcome of the last stretch with them.
    ///
    /// # Errors
    /// When the server stops answering.
    pub(crate) fn drain(&mut self, outcome: &mut Outcome) -> Result<Recorder> {
        let part = self.part("drain", 0.0);
        self.go(Phase::Drain, None, part)?;
        outcome.tally = self.driver.judge.tally.since(&outcome.before);
        Ok(self.driver.judge.take_recorder())
    }

    /// From here on watchers have to hear of every put.
    ///
    /// # Errors
    /// As of [`Session::stretch`].
    pub(crate) fn tell(&mut self, watching: &Watching) -> Result<()> {
        let wanted = if watching.watch_own {
            1
        } else {
            watching.watchers
        };
        let newest = self.ask_revision()?;
        self.driver.judge.told = Some(Told::new(newest, wanted));
        Ok(())
    }

    /// Puts so much as fast as it goes.
    ///
    /// # Errors
    /// As of [`Session::stretch`].
    pub(crate) fn write_history(&mut self, puts: u32) -> Result<()> {
        let end = self.driver.judge.tally.changes + u64::from(puts);
        while self.driver.judge.tally.changes < end {
            let until = self.driver.now() + HISTORY_STEP.as_nanos() as u64;
            let part = self.part("history", 0.0);
            let streams = HISTORY_STREAMS;
            self.go(Phase::Closed { streams }, Some(until), part)?;
        }
        let part = self.part("drain", 0.0);
        self.go(Phase::Drain, None, part)
    }

    /// Opens the watchers' connections.
    ///
    /// # Errors
    /// When the server does not take them.
    pub(crate) fn connect_watchers(&mut self, to: SocketAddr) -> Result<()> {
        self.driver.connect_watchers(to, &self.load.watching)
    }

    /// Creates all watchers. Says the seconds until the last was there.
    ///
    /// # Errors
    /// When one is not.
    pub(crate) fn create_watchers(&mut self) -> Result<f64> {
        let began = self.driver.now();
        self.driver.create_watchers();
        loop {
            if let Some(ended) = self.watchers()?.created_at() {
                return Ok((ended.max(began + 1) - began) as f64 / 1e9);
            }
            let waited = Duration::from_nanos(self.driver.now() - began);
            ensure!(
                waited < CREATING_PATIENCE,
                "not all watchers are there after {} s",
                waited.as_secs()
            );
            self.rest(Duration::from_millis(1))?;
        }
    }

    /// The measured time has begun: watchers that begin behind are created now, others may stop reading for a while.
    fn begin_watching(&mut self, measured: Range<u64>) {
        let Some(watchers) = &mut self.driver.watchers else {
            return;
        };
        watchers.begin(&measured);
        if let Some(told) = &mut self.driver.judge.told {
            told.begin(measured);
        }
        if self.load.watching.watch_behind > 0 {
            self.driver.create_watchers();
        }
    }

    /// What watchers were told, and the seconds that they took to catch up if they were to.
    ///
    /// # Errors
    /// When they were told something else.
    pub(crate) fn take_watched(&mut self) -> Result<(Told, Option<f64>)> {
        let arrived = self.watchers()?.arrived_at();
        let resumed = self.watchers()?.resumed_at(self.measured_from);
        self.driver.watchers = None;
        let told = self.driver.judge.told.take().filter(Told::is_whole);
        let told = told.context("watchers heard more than what was put")?;
        let seconds = match (resumed, arrived) {
            (None, _) => None,
            (Some(from), Some(at)) => Some(at.saturating_sub(from) as f64 / 1e9),
            (Some(_), None) => bail!("not all watchers have caught up"),
        };
        Ok((told, seconds))
    }

    fn watchers(&self) -> Result<&Watchers> {
        self.driver.watchers.as_ref().context("nobody watches")
    }

    /// What was done beside in the last measured time.
    pub(crate) fn take_beside(&mut self) -> Vec<Beside> {
        let ended = std::mem::take(&mut self.driver.judge.beside);
        let record = |ended: Ended| ended.record(self.measured_from);
        ended.into_iter().map(record).collect()
    }

    /// The recorder of the stretch before the last, which was not drained.
    pub(crate) fn take_earlier(&mut self) -> Option<Recorder> {
        self.driver
            .judge
            .earlier
            .take()
            .map(|(_, recorder)| recorder)
    }

    /// Opens the connections that the load has beyond those that are there. Says how many, and the seconds until all were greeted.
    ///
    /// # Errors
    /// When the server does not take or greet them; [`super::Interrupted`].
    pub(crate) fn open_rest(&mut self, to: SocketAddr) -> Result<(u32, f64)> {
        let began = self.driver.now();
        let count = usize::from(self.load.conns) - self.driver.foreground();
        for opened in 0..count {
            self.driver.open(to)?;
            // What was opened is greeted meanwhile, or the server's queue of connections runs over.
            if opened % OPENED_AT_ONCE == 0 {
                self.rest(Duration::ZERO)?;
            }
        }
        while self.driver.greeted() < self.driver.foreground() {
            let waited = Duration::from_nanos(self.driver.now() - began);
            ensure!(
                waited < GREETING_PATIENCE,
                "the server greeted {} of {count} connections in {} s",
                self.driver.greeted(),
                waited.as_secs()
            );
            self.rest(Duration::from_millis(1))?;
        }
        let seconds = (self.driver.now() - began) as f64 / 1e9;
        Ok((u32::try_from(count)?, seconds))
    }

    /// Starts nothing for a while, but goes on listening.
    ///
    /// # Errors
    /// As of [`Session::stretch`].
    pub(crate) fn rest(&mut self, time: Duration) -> Result<()> {
        let until = self.driver.now() + time.as_nanos() as u64;
        let part = self.part("idle", 0.0);
        self.go(Phase::Drain, Some(until), part)
    }

    /// Gives up what is unanswered, as the server is gone, and completes the outcome of the last stretch. The number is of what was given up.
    pub(crate) fn abandon(&mut self, outcome: &mut Outcome) -> (Recorder, u64) {
        let unanswered = self.driver.abandon();
        outcome.tally = self.driver.judge.tally.since(&outcome.before);
        (self.driver.judge.take_recorder(), unanswered)
    }

    /// Connects anew and tries a linearizable get. `false`: the server answered with an error.
    ///
    /// # Errors
    /// When a connection fails or the server does not answer; [`super::Interrupted`].
    pub(crate) fn reconnect(&mut self, to: SocketAddr) -> Result<bool> {
        let before = self.driver.judge.tally.clone();
        let done = self
            .driver
            .reconnect(&[to])
            .and_then(|()| self.once(Ask::Revision));
        let is_served = self.driver.judge.tally.good > before.good;
        if done.is_err() || !is_served {
            // The try is none of the load's operations.
            self.driver.abandon();
            self.driver.judge.tally = before;
        }
        done.map(|()| is_served)
    }

    /// Connects anew, with nothing in flight.
    ///
    /// # Errors
    /// When the server does not take the connections.
    pub(crate) fn connect_to(&mut self, to: SocketAddr) -> Result<()> {
        self.driver.reconnect(&[to])
    }

    /// Drives those members by an open loop and kills another one under it. Seconds from then to the first answer to an operation that
    /// was begun later, and how many operations were never answered.
    ///
    /// # Errors
    /// When a connection fails or nothing is answered in time; [`super::Interrupted`].
    pub(crate) fn fail_over(
        &mut self,
        to: &[SocketAddr],
        per_second: f64,
        kill: &mut dyn FnMut() -> Result<Instant>,
    ) -> Result<(f64, u64)> {
        self.driver.reconnect(to)?;
        let now = self.driver.now();
        let calm = now + FAILOVER_CALM.as_nanos() as u64;
        let pace = Pace::even(per_second, now);
        let part = self.part("leader kill", super::failover::SECONDS);
        self.go(Phase::Open(pace), Some(calm), part)?;
        let killed = self.driver.at(kill()?);
        self.driver.judge.first = FirstAfter::new(killed);
        let answered = loop {
            if let Some(answered) = self.driver.judge.first.answered {
                break answered;
            }
            let until = self.driver.now() + FAILOVER_STEP.as_nanos() as u64;
            ensure!(
                until - killed < FAILOVER_PATIENCE.as_nanos() as u64,
                "no operation was acknowledged {} s after the leader was killed",
                FAILOVER_PATIENCE.as_secs()
            );
            self.driver.resume(Some(until), part, self.progress)?;
        };
        Ok(((answered - killed) as f64 / 1e9, self.driver.abandon()))
    }

    /// Puts or compares in one operation.
    pub(crate) fn inner(&self) -> u64 {
        self.driver.judge.workload.inner()
    }

    /// Requests of one walk over all keys, when that is the workload.
    pub(crate) fn walk_pages(&self) -> Option<u32> {
        self.driver.judge.workload.walk_pages()
    }

    /// Checks that everything acknowledged is there, and nothing else.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn verify(&mut self) -> Result<Verified> {
        let part = self.part("drain", 0.0);
        self.go(Phase::Drain, None, part)?;
        let tally = self.driver.judge.tally.since(&self.tally);
        let revisions = self.ask_revision()? - self.revision - self.ended_leases();
        let changes = tally.changes as i64;
        let is_lost = revisions < changes;
        let is_surplus = revisions > changes + tally.failed() as i64;
        ensure!(
            !is_lost && !is_surplus,
            "{changes} acknowledged changes, {revisions} revisions"
        );
        ensure!(
            tally.wrong == 0,
            "{} answers do not belong to their requests",
            tally.wrong
        );

        let before = self.driver.judge.tally.clone();
        let sample = self.driver.judge.workload.keys().min(READ_BACK_KEYS);
        let part = self.part("read back", 0.0);
        self.go(Phase::ReadBack { left: sample }, None, part)?;
        let read_back = self.driver.judge.tally.good - before.good;
        self.driver.judge.digest = DIGEST_BEGIN;
        let part = self.part("check all keys", self.keys_seconds);
        self.go(Phase::Pages { next: 0 }, None, part)?;
        let after = self.driver.judge.tally.since(&before);
        ensure!(
            read_back == u64::from(sample) && after.wrong == 0 && after.failed() == 0,
            "keys are gone or wrong: {read_back} of {sample} read back, {} wrong answers, failures {:?}",
            after.wrong,
            after.failures
        );
        Ok(Verified {
            answered_right: tally.good,
            txn_conflicts: tally.conflicts,
            acknowledged_changes: tally.changes,
            revisions,
            read_back,
            failures: tally.failures,
            over_limit: tally.over_limit,
            digest: Some(self.driver.judge.digest),
        })
    }

    /// The store's revision, by a read of our own when nothing else is in flight.
    fn ask_revision(&mut self) -> Result<i64> {
        let good = self.driver.judge.tally.good;
        self.once(Ask::Revision)?;
        let tally = &self.driver.judge.tally;
        ensure!(
            tally.good == good + 1,
            "the server tells no revision, or not all keys are there: failures {:?}",
            tally.failures
        );
        Ok(self.driver.judge.revision)
    }

    fn go(&mut self, phase: Phase, until: Option<u64>, part: Part) -> Result<()> {
        self.driver.go(phase, until, part, self.progress)
    }

    fn part(&mut self, name: &'static str, seconds: f64) -> Part {
        let share = |passed: f64| (passed / self.foretold).min(1.0);
        let part = Part {
            name,
            from: share(self.passed),
            to: share(self.passed + seconds),
        };
        self.passed += seconds;
        part
    }

    fn offered(&self) -> u64 {
        match self.driver.phase() {
            Phase::Open(pace) => pace.count(),
            _ => 0,
        }
    }
}

/// Keys that are loaded or checked in a second, for the progress: about what stock etcd does.
const KEYS_PER_SECOND: f64 = 100_000.0;

/// Far below the kernel's bound of what waits for a server's accept.
const OPENED_AT_ONCE: usize = 100;
const GREETING_PATIENCE: Duration = Duration::from_secs(120);

/// Under the load before the leader is killed.
const FAILOVER_CALM: Duration = Duration::from_millis(300);
/// Between two looks whether something was answered; the answer's own time counts.
const FAILOVER_STEP: Duration = Duration::from_millis(20);
const FAILOVER_PATIENCE: Duration = Duration::from_secs(30);

/// History is written by so many calls a connection, and looked at so often.
const HISTORY_STREAMS: usize = 100;
const HISTORY_STEP: Duration = Duration::from_millis(50);
const CREATING_PATIENCE: Duration = Duration::from_secs(120);

/// Keys read at the end, linearizable.
const READ_BACK_KEYS: u32 = 1_000;
