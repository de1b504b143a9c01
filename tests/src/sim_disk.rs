//! A disk that forgets: what was not flushed survives a crash sector by sector, or not, as the test chooses.
//!
//! Promises: nothing but a durable write, a `Sync` or a `SyncDir` that was answered is safe. A snapshot is taken before every
//! change, with whatever is in flight. Errors are injected by call number. Start at [`SimDisk::snapshots`].

use std::collections::BTreeMap;
use std::rc::Rc;

use basalt_engine::disk::{
    Disk, DiskAnswer, DiskError, DiskErrorKind, DiskOp, File, Name, PAGE_BYTES, Pages, SECTOR_BYTES,
};
use fastrand::Rng;

/// What a file holds: durable bytes, and in order what was written since and is not flushed.
#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Rc<Vec<u8>>,
    /// The length that reads see; `durable` has the flushed one.
    length: usize,
    pending: Vec<Unit>,
}

/// The least that survives or not: one sector, or the length of a file.
#[derive(Clone, Debug)]
enum Unit {
    Sector {
        at: usize,
        bytes: Rc<[u8; SECTOR_BYTES]>,
    },
    Length(usize),
}

/// A change of the directory that is not flushed.
#[derive(Clone, Copy, Debug)]
enum NameChange {
    Add(File, usize),
    Move(File, File),
    Remove(File),
}

/// A write that is not answered.
#[derive(Clone, Debug)]
struct Flight {
    id: u64,
    file: File,
    offset: u64,
    pages: Pages,
    durable: bool,
}

/// The disk. Cloning it is taking an image.
#[derive(Clone, Debug, Default)]
pub struct SimDisk<M: Clone> {
    inodes: Vec<Inode>,
    names: BTreeMap<File, usize>,
    durable_names: BTreeMap<File, usize>,
    name_changes: Vec<NameChange>,
    in_flight: Vec<Flight>,
    /// What the test wants to remember with each snapshot.
    pub mark: M,
    /// Images taken before every change, if `record` is set. In each, the change itself is in flight.
    pub snapshots: Vec<SimDisk<M>>,
    /// Whether snapshots are taken.
    pub record: bool,
    /// Calls so far.
    pub calls: u64,
    /// The error to inject.
    pub fault: Option<Fault>,
    /// How many bytes all files together may have; `None` is no bound.
    pub capacity_bytes: Option<u64>,
}

/// An injected error.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The call that fails, counted by `calls`.
    pub call: u64,
    /// Whether all later calls fail too.
    pub for_ever: bool,
    /// How.
    pub kind: DiskErrorKind,
}

/// The number of a write that nobody waits for.
const UNKNOWN: u64 = u64::MAX;

/// What survives a crash.
#[derive(Debug)]
pub enum Survive<'a> {
    /// Only what was flushed.
    Nothing,
    /// Everything that was issued.
    Everything,
    /// All but one unit.
    AllBut(usize),
    /// One unit.
    Only(usize),
    /// The units whose bit is set.
    Bits(u64),
    /// Each unit with this many chances in 8.
    Random(&'a mut Rng, u8),
}

impl Survive<'_> {
    fn keeps(&mut self, unit: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::AllBut(one) => unit != *one,
            Self::Only(one) => unit == *one,
            Self::Bits(bits) => unit < 64 && *bits >> unit & 1 == 1,
            Self::Random(rng, chances) => rng.u8(0..8) < *chances,
        }
    }
}

impl<M: Clone + Default> SimDisk<M> {
    /// An empty disk that takes snapshots.
    #[must_use]
    pub fn recording() -> Self {
        Self {
            record: true,
            ..Self::default()
        }
    }

    /// An empty disk that fails.
    #[must_use]
    pub fn failing(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }
}

impl<M: Clone> SimDisk<M> {
    /// Puts a write in flight. `land` ends it.
    pub fn submit(&mut self, id: u64, op: DiskOp) -> Result<(), DiskError> {
        let counted = self.count(&op);
        let DiskOp::Write {
            file,
            offset,
            pages,
            durable,
        } = op
        else {
            panic!("the log submits writes only, not {op:?}");
        };
        // What of a failed write reached the disk stays unknown.
        let id = if counted.is_ok() { id } else { UNKNOWN };
        self.in_flight.push(Flight {
            id,
            file,
            offset,
            pages,
            durable,
        });
        self.snapshot(None);
        counted
    }

    /// The writes in flight, oldest first.
    pub fn flying(&self) -> Vec<u64> {
        self.in_flight
            .iter()
            .map(|flight| flight.id)
            .filter(|id| *id != UNKNOWN)
            .collect()
    }

    /// Ends a write in flight: it is durable if it was to be.
    pub fn land(&mut self, id: u64) -> DiskAnswer {
        self.snapshot(None);
        let Flight {
            file,
            offset,
            pages,
            durable,
            ..
        } = self.take_flight(id);
        let inode = self.inode(file).expect("opened");
        self.inodes[inode].write(offset, &pages, durable);
        DiskAnswer::Written(pages)
    }

    /// Ends a write in flight as `land` does, but the disk lies: what was written is nowhere.
    pub fn land_nowhere(&mut self, id: u64) -> DiskAnswer {
        DiskAnswer::Written(self.take_flight(id).pages)
    }

    /// Ends a write in flight as `land` does, but the bytes go to another place of the file, durable there.
    pub fn land_elsewhere(&mut self, id: u64, shift_pages: u64) -> DiskAnswer {
        let Flight {
            file,
            offset,
            pages,
            ..
        } = self.take_flight(id);
        let inode = self.inode(file).expect("opened");
        let length = self.inodes[inode].length as u64;
        let wrong = (offset + shift_pages * PAGE_BYTES as u64) % length;
        if wrong + pages.bytes() as u64 <= length {
            self.inodes[inode].write(wrong, &pages, true);
        }
        DiskAnswer::Written(pages)
    }

    /// Whether a write in flight is one to the log's segments.
    #[must_use]
    pub fn is_log_write(&self, id: u64) -> bool {
        let mut flights = self.in_flight.iter();
        flights.any(|flight| flight.id == id && matches!(flight.file, File::Wal(_)))
    }

    fn take_flight(&mut self, id: u64) -> Flight {
        let mut flights = self.in_flight.iter();
        let at = flights.position(|flight| flight.id == id);
        self.in_flight.remove(at.expect("in flight"))
    }

    /// Flips a bit of what is durable in a file; the byte is counted from its beginning and round again.
    pub fn rot(&mut self, file: File, byte: u64, bit: u8) {
        let inode = self.inode(file).expect("there");
        let durable = Rc::make_mut(&mut self.inodes[inode].durable);
        if !durable.is_empty() {
            let at = usize::try_from(byte).expect("small") % durable.len();
            durable[at] ^= 1 << (bit % 8);
        }
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let lengths = self.names.values().map(|inode| self.inodes[*inode].length);
        lengths.map(|length| length as u64).sum()
    }

    /// How many units a crash now can keep or lose.
    #[must_use]
    pub fn units(&self) -> usize {
        let flying: usize = self
            .in_flight
            .iter()
            .map(|flight| flight.pages.bytes() / SECTOR_BYTES)
            .sum();
        self.inodes
            .iter()
            .map(|inode| inode.pending.len())
            .sum::<usize>()
            + self.name_changes.len()
            + flying
    }

    /// The disk after the power came back.
    #[must_use]
    pub fn after_power_cut(&self, mut survive: Survive<'_>) -> Self {
        let mut disk = self.bare();
        disk.keep(self, &mut survive);
        for inode in &mut disk.inodes {
            inode.pending.clear();
            inode.length = inode.durable.len();
        }
        disk.names.clone_from(&disk.durable_names);
        disk
    }

    /// The disk after the process was killed: what it had written is seen, but still not flushed. `part` chooses what of the
    /// writes in flight was done.
    #[must_use]
    pub fn after_kill(&self, mut part: Survive<'_>) -> Self {
        let mut disk = self.bare();
        disk.inodes.clone_from(&self.inodes);
        disk.names.clone_from(&self.names);
        disk.name_changes.clone_from(&self.name_changes);
        let mut unit = 0;
        for Flight {
            file,
            offset,
            pages,
            ..
        } in &self.in_flight
        {
            let Some(&inode) = disk.names.get(file) else {
                continue;
            };
            for sector in 0..pages.bytes() / SECTOR_BYTES {
                if part.keeps(unit) {
                    let at = usize::try_from(*offset).expect("small") + sector * SECTOR_BYTES;
                    disk.inodes[inode].pending.push(Unit::Sector {
                        at,
                        bytes: Rc::new(*pages.sector(sector)),
                    });
                }
                unit += 1;
            }
        }
        disk
    }

    /// The bytes of a file as they are read now.
    pub fn bytes_of(&self, file: File) -> Option<Vec<u8>> {
        self.names
            .get(&file)
            .map(|inode| self.inodes[*inode].read())
    }

    /// Replaces or removes a file behind everybody's back, flushed.
    pub fn tamper(&mut self, file: File, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => {
                let length = bytes.len();
                self.inodes.push(Inode {
                    durable: Rc::new(bytes),
                    length,
                    pending: Vec::new(),
                });
                self.names.insert(file, self.inodes.len() - 1);
            }
            None => {
                self.names.remove(&file);
            }
        }
        self.durable_names.clone_from(&self.names);
    }

    /// The files there are.
    #[must_use]
    pub fn files(&self) -> Vec<File> {
        self.names.keys().copied().collect()
    }

    /// A disk with the flushed state only, and no instruments.
    fn bare(&self) -> Self {
        Self {
            inodes: self
                .inodes
                .iter()
                .map(|inode| Inode {
                    pending: Vec::new(),
                    ..inode.clone()
                })
                .collect(),
            names: BTreeMap::new(),
            durable_names: self.durable_names.clone(),
            name_changes: Vec::new(),
            in_flight: Vec::new(),
            mark: self.mark.clone(),
            snapshots: Vec::new(),
            record: false,
            calls: 0,
            fault: None,
            capacity_bytes: None,
        }
    }

    /// Makes durable what `survive` keeps of `from`: name changes, then sectors and lengths, then writes in flight.
    fn keep(&mut self, from: &Self, survive: &mut Survive<'_>) {
        let mut unit = 0;
        let mut next = || {
            unit += 1;
            survive.keeps(unit - 1)
        };
        for change in &from.name_changes {
            if next() {
                apply(&mut self.durable_names, *change);
            }
        }
        for (number, inode) in from.inodes.iter().enumerate() {
            for unit in &inode.pending {
                if next() {
                    unit.apply(Rc::make_mut(&mut self.inodes[number].durable));
                }
            }
        }
        for Flight {
            file,
            offset,
            pages,
            ..
        } in &from.in_flight
        {
            let inode = from.names.get(file);
            for sector in 0..pages.bytes() / SECTOR_BYTES {
                if let Some(&inode) = inode.filter(|_| next()) {
                    let at = usize::try_from(*offset).expect("small") + sector * SECTOR_BYTES;
                    let bytes = Rc::new(*pages.sector(sector));
                    Unit::Sector { at, bytes }.apply(Rc::make_mut(&mut self.inodes[inode].durable));
                }
            }
        }
    }

    fn inode(&self, file: File) -> Option<usize> {
        self.names.get(&file).copied()
    }

    fn count(&mut self, op: &DiskOp) -> Result<(), DiskError> {
        self.calls += 1;
        if self.growth(op) > self.room() {
            return Err(DiskError {
                site: op.site(),
                kind: DiskErrorKind::NoSpace,
                errno: None,
            });
        }
        match self.fault {
            Some(fault)
                if self.calls == fault.call || (fault.for_ever && self.calls > fault.call) =>
            {
                Err(DiskError {
                    site: op.site(),
                    kind: fault.kind,
                    errno: None,
                })
            }
            _ => Ok(()),
        }
    }

    /// Bytes that an operation adds to the files.
    fn growth(&self, op: &DiskOp) -> u64 {
        match op {
            DiskOp::Create { bytes, .. } => *bytes,
            DiskOp::Write {
                file,
                offset,
                pages,
                ..
            } => {
                let length = self.inode(*file).map_or(0, |it| self.inodes[it].length);
                (offset + pages.bytes() as u64).saturating_sub(length as u64)
            }
            _ => 0,
        }
    }

    fn room(&self) -> u64 {
        self.capacity_bytes.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(self.used_bytes())
        })
    }

    /// Takes an image, with a write that is about to be done as one in flight.
    fn snapshot(&mut self, about: Option<(File, u64, &Pages)>) {
        if !self.record {
            return;
        }
        let snapshots = core::mem::take(&mut self.snapshots);
        let mut image = self.clone();
        self.snapshots = snapshots;
        image.record = false;
        if let Some((file, offset, pages)) = about {
            let pages = pages.clone();
            image.in_flight.push(Flight {
                id: UNKNOWN,
                file,
                offset,
                pages,
                durable: true,
            });
        }
        self.snapshots.push(image);
    }

    fn change_names(&mut self, change: NameChange) {
        apply(&mut self.names, change);
        self.name_changes.push(change);
    }
}

impl Inode {
    fn read(&self) -> Vec<u8> {
        let mut bytes = self.durable.as_ref().clone();
        bytes.resize(bytes.len().max(self.length), 0);
        for unit in &self.pending {
            unit.apply(&mut bytes);
        }
        bytes.truncate(self.length);
        bytes
    }

    /// The bytes from `from` on, which must lie inside the file.
    fn read_part(&self, from: usize, into: &mut [u8]) {
        into.fill(0);
        let mut copy = |at: usize, bytes: &[u8]| {
            let (first, end) = (at.max(from), (at + bytes.len()).min(from + into.len()));
            if first < end {
                into[first - from..end - from].copy_from_slice(&bytes[first - at..end - at]);
            }
        };
        copy(0, &self.durable);
        for unit in &self.pending {
            if let Unit::Sector { at, bytes } = unit {
                copy(*at, &bytes[..]);
            }
        }
    }

    fn write(&mut self, offset: u64, pages: &Pages, durable: bool) {
        let at = usize::try_from(offset).expect("small");
        let end = at + pages.bytes();
        if end > self.length {
            self.length = end;
            self.pending.push(Unit::Length(end));
        }
        if durable {
            return self.write_durable(offset, pages);
        }
        for sector in 0..pages.bytes() / SECTOR_BYTES {
            let (at, bytes) = (at + sector * SECTOR_BYTES, Rc::new(*pages.sector(sector)));
            self.pending.push(Unit::Sector { at, bytes });
        }
    }

    fn write_durable(&mut self, offset: u64, pages: &Pages) {
        let at = usize::try_from(offset).expect("small");
        let end = at + pages.bytes();
        assert!(end <= self.length, "the log writes inside its segments");
        // What was written there before is overtaken.
        self.pending.retain(
            |unit| !matches!(unit, Unit::Sector { at: old, .. } if (at..end).contains(old)),
        );
        let durable = Rc::make_mut(&mut self.durable);
        durable.resize(durable.len().max(end), 0);
        for (page, at) in pages.as_slice().iter().zip((at..).step_by(PAGE_BYTES)) {
            durable[at..at + PAGE_BYTES].copy_from_slice(&page.0);
        }
    }

    fn sync(&mut self) {
        let durable = Rc::make_mut(&mut self.durable);
        for unit in self.pending.drain(..) {
            unit.apply(durable);
        }
        durable.resize(self.length, 0);
    }
}

impl Unit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Sector { at, bytes: sector } => {
                bytes.resize(bytes.len().max(at + SECTOR_BYTES), 0);
                bytes[*at..at + SECTOR_BYTES].copy_from_slice(&sector[..]);
            }
            Self::Length(length) => bytes.resize(bytes.len().max(*length), 0),
        }
    }
}

fn apply(names: &mut BTreeMap<File, usize>, change: NameChange) {
    match change {
        NameChange::Add(file, inode) => {
            names.insert(file, inode);
        }
        NameChange::Move(from, to) => {
            // A move whose creation did not survive moves nothing.
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
        NameChange::Remove(file) => {
            names.remove(&file);
        }
    }
}

impl<M: Clone> Disk for SimDisk<M> {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        self.count(&op)?;
        let error = |kind| DiskError {
            site: op.site(),
            kind,
            errno: None,
        };
        let find = |file: &File| self.inode(*file).ok_or(error(DiskErrorKind::NotFound));
        match &op {
            DiskOp::List => {
                let name = |(file, inode): (&File, &usize)| {
                    let (text, bytes) = (file.to_string(), self.inodes[*inode].length as u64);
                    Name {
                        text,
                        file: Some(*file),
                        bytes,
                        is_dir: false,
                    }
                };
                return Ok(DiskAnswer::Names(self.names.iter().map(name).collect()));
            }
            DiskOp::Create { file, bytes } => {
                if self.inode(*file).is_some() {
                    return Err(error(DiskErrorKind::Exists));
                }
                self.snapshot(None);
                let length = usize::try_from(*bytes).expect("small");
                let pending = vec![Unit::Length(length)];
                self.inodes.push(Inode {
                    durable: Rc::default(),
                    length,
                    pending,
                });
                self.change_names(NameChange::Add(*file, self.inodes.len() - 1));
            }
            DiskOp::Sync { file } => {
                let inode = find(file)?;
                self.snapshot(None);
                self.inodes[inode].sync();
            }
            DiskOp::Rename { from, to } => {
                find(from)?;
                self.snapshot(None);
                self.change_names(NameChange::Move(*from, *to));
            }
            DiskOp::Remove { file } => {
                find(file)?;
                self.snapshot(None);
                self.change_names(NameChange::Remove(*file));
            }
            DiskOp::SyncDir => {
                self.snapshot(None);
                self.name_changes.clear();
                self.durable_names.clone_from(&self.names);
            }
            DiskOp::Read { file, .. } | DiskOp::Write { file, .. } => {
                let inode = find(file)?;
                return Ok(self.transfer(inode, op));
            }
        }
        Ok(DiskAnswer::Done)
    }
}

impl<M: Clone> SimDisk<M> {
    fn transfer(&mut self, inode: usize, op: DiskOp) -> DiskAnswer {
        match op {
            DiskOp::Read {
                offset, mut into, ..
            } => {
                let (inode, at) = (&self.inodes[inode], usize::try_from(offset).expect("small"));
                let take = inode.length.saturating_sub(at).min(into.bytes());
                let pages = into.as_mut_slice().iter_mut();
                for (page, from) in pages.zip((0..take).step_by(PAGE_BYTES)) {
                    let wanted = PAGE_BYTES.min(take - from);
                    inode.read_part(at + from, &mut page.0[..wanted]);
                }
                DiskAnswer::Read {
                    pages: into,
                    bytes: take,
                }
            }
            DiskOp::Write {
                file,
                offset,
                pages,
                durable,
            } => {
                self.snapshot(Some((file, offset, &pages)));
                self.inodes[inode].write(offset, &pages, durable);
                DiskAnswer::Written(pages)
            }
            other => unreachable!("{other:?} moves no bytes"),
        }
    }
}
