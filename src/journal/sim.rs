//! A disk that forgets, lies and fills up, under a seed: for tests, here and wherever a journal is simulated.
//!
//! It holds what a real disk holds: for every file what a process sees (the page cache) and what is on the
//! medium, and which sectors differ for want of a sync. [`LossyDisk::power_cut`] lets any subset of those
//! sectors survive.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::direct::PAGE_BYTES;
use super::layout::SegmentHeader;
use super::storage::{SegmentFile, Storage};

/// Unit that a medium writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Fault of a durable write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteFault {
    /// Power goes while it is under way: all of it is in the cache, nothing was synced, nobody hears an
    /// answer.
    PowerCut,
    /// The sync fails with EIO. The cache then takes its pages for clean (so does Linux): a later sync
    /// answers ok.
    SyncError,
    /// Only a part is written, which is durable.
    Short,
}

#[derive(Debug, Default)]
struct Sectors {
    seen: Vec<u8>,
    medium: Vec<u8>,
    /// Differ, and a sync would write them.
    dirty: BTreeSet<usize>,
}

/// The place of one journal.
#[derive(Debug, Default)]
struct Directory {
    /// By base, then whether set aside.
    files: BTreeMap<(u64, bool), Sectors>,
    missing: Vec<(u64, u64)>,
    oldest: Option<u64>,
}

#[derive(Debug)]
struct Disk {
    directories: [Directory; 2],
    random: u64,
    capacity_bytes: u64,
    /// Syncs answer ok and do nothing: the control that must lose data.
    lies: bool,
    writes: u64,
    fault: Option<(u64, WriteFault)>,
    /// Writes, files made and deleted, and notes, count.
    changes: u64,
    /// Power goes with this one.
    last_change: Option<u64>,
    /// Nothing answers any more until the restart.
    down: bool,
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct LossyDisk {
    disk: Arc<Mutex<Disk>>,
    directory: usize,
}

impl LossyDisk {
    /// An empty disk with room for `capacity` bytes, whose chances come from `seed`.
    #[must_use]
    pub fn new(seed: u64, capacity_bytes: u64) -> Self {
        let disk = Disk {
            directories: Default::default(),
            random: seed,
            capacity_bytes,
            lies: false,
            writes: 0,
            fault: None,
            changes: 0,
            last_change: None,
            down: false,
        };
        Self { disk: Arc::new(Mutex::new(disk)), directory: 0 }
    }

    /// The place of a second journal on the same disk.
    #[must_use]
    pub fn second_directory(&self) -> Self {
        Self { directory: 1, ..self.clone() }
    }

    /// The power fails with the change after this many more: a write, a file made or deleted, a note.
    pub fn cut_after(&self, changes: u64) {
        let mut disk = self.disk.lock();
        disk.last_change = Some(disk.changes + changes + 1);
    }

    /// Syncs do nothing from now on, and say nothing.
    pub fn lie_about_syncs(&self) {
        self.disk.lock().lies = true;
    }

    /// The durable write after `writes` more goes wrong.
    pub fn fail_after(&self, writes: u64, fault: WriteFault) {
        let mut disk = self.disk.lock();
        disk.fault = Some((disk.writes + writes, fault));
    }

    /// Sets the capacity of the disk from now on.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.lock().capacity_bytes = bytes;
    }

    /// Durable writes so far, count.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.disk.lock().writes
    }

    /// The power goes and comes back: of the sectors that were not synced, any subset survives.
    pub fn power_cut(&self) {
        let mut disk = self.disk.lock();
        let Disk { directories, random, .. } = &mut *disk;
        for sectors in directories.iter_mut().flat_map(|directory| directory.files.values_mut()) {
            for sector in std::mem::take(&mut sectors.dirty) {
                let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(sectors.seen.len());
                if split_mix(random) & 1 == 0 {
                    sectors.medium[range.clone()].copy_from_slice(&sectors.seen[range]);
                }
            }
            sectors.seen.clone_from(&sectors.medium);
        }
        disk.restart();
    }

    /// The process is killed and starts again: what it wrote is seen, synced or not.
    pub fn kill(&self) {
        self.disk.lock().restart();
    }

    /// Turns one bit over, on the medium and in the cache, set aside or not. `false`: there is no such byte.
    pub fn flip_bit(&self, base: u64, offset: usize, bit: u8) -> bool {
        self.flip_byte(base, offset, 1 << (bit % 8))
    }

    /// Changes one byte by `flip`, on the medium and in the cache, set aside or not. `false`: there is no
    /// such byte.
    pub fn flip_byte(&self, base: u64, offset: usize, flip: u8) -> bool {
        self.change(base, |sectors| {
            let place = sectors.seen.get_mut(offset).zip(sectors.medium.get_mut(offset));
            place.map(|(seen, medium)| (*seen, *medium) = (*seen ^ flip, *medium ^ flip)).is_some()
        })
    }

    /// Cuts a segment's file to `bytes` bytes, set aside or not. `false`: there is none, or it is no longer
    /// than that.
    pub fn cut(&self, base: u64, bytes: usize) -> bool {
        self.change(base, |sectors| {
            let is_cut = bytes < sectors.seen.len();
            sectors.seen.truncate(bytes);
            sectors.medium.truncate(bytes);
            sectors.dirty.retain(|sector| sector * SECTOR_BYTES < bytes);
            is_cut
        })
    }

    /// Takes a segment's file away, set aside or not. `false`: there is none.
    pub fn lose(&self, base: u64) -> bool {
        let files = &mut self.disk.lock().directories[self.directory].files;
        files.remove(&(base, false)).or_else(|| files.remove(&(base, true))).is_some()
    }

    fn change(&self, base: u64, change: impl FnOnce(&mut Sectors) -> bool) -> bool {
        let files = &mut self.disk.lock().directories[self.directory].files;
        let key = if files.contains_key(&(base, false)) { (base, false) } else { (base, true) };
        files.get_mut(&key).is_some_and(change)
    }

    /// Puts any bytes in a segment's place, as a broken medium or another program might.
    pub fn plant(&self, base: u64, bytes: Vec<u8>) {
        let sectors = Sectors { seen: bytes.clone(), medium: bytes, dirty: BTreeSet::new() };
        self.disk.lock().directories[self.directory].files.insert((base, false), sectors);
    }
}

impl Disk {
    fn up(&mut self) -> io::Result<&mut Self> {
        if self.down { Err(io::Error::other("the simulated disk is down")) } else { Ok(self) }
    }

    /// The next change; [`cut_after`](LossyDisk::cut_after) may have it be the last.
    fn change(&mut self) -> io::Result<&mut Self> {
        self.up()?.changes += 1;
        if self.last_change == Some(self.changes) {
            self.down = true;
        }
        self.up()
    }

    fn restart(&mut self) {
        (self.fault, self.last_change, self.down) = (None, None, false);
    }

    fn used(&self) -> u64 {
        let files = self.directories.iter().flat_map(|directory| directory.files.values());
        files.map(|sectors| sectors.seen.len() as u64).sum()
    }
}

impl Storage for LossyDisk {
    type View = Vec<u8>;

    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        let mut disk = self.disk.lock();
        let files = disk.up()?.directories[self.directory].files.iter();
        let file = |(&(base, set_aside), sectors): (&(u64, bool), &Sectors)| SegmentFile {
            base,
            bytes: sectors.seen.len() as u64,
            set_aside,
        };
        Ok(files.map(file).collect())
    }

    fn create(&self, header: &SegmentHeader, _pace: &mut dyn FnMut(u64)) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let disk = disk.change()?;
        if disk.used() + header.bytes > disk.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut seen = vec![0; usize::try_from(header.bytes).map_err(io::Error::other)?];
        seen[..super::layout::HEADER_BYTES].copy_from_slice(&header.encode());
        let sectors = Sectors { medium: seen.clone(), seen, dirty: BTreeSet::new() };
        disk.directories[self.directory].files.insert((header.base, false), sectors);
        Ok(())
    }

    fn write_durable(&self, base: u64, offset: u64, pages: &[u8]) -> io::Result<usize> {
        let is_whole = offset.is_multiple_of(PAGE_BYTES as u64) && pages.len().is_multiple_of(PAGE_BYTES);
        assert!(is_whole, "{} bytes at {offset}: a disk takes whole pages", pages.len());
        let mut disk = self.disk.lock();
        let disk = disk.up()?;
        (disk.writes, disk.changes) = (disk.writes + 1, disk.changes + 1);
        if disk.last_change == Some(disk.changes) {
            disk.fault = Some((0, WriteFault::PowerCut));
        }
        let fault = disk.fault.filter(|(at, _)| disk.writes > *at).map(|(_, fault)| fault);
        let bytes = if fault == Some(WriteFault::Short) { &pages[..pages.len() / 2] } else { pages };
        let lies = disk.lies;
        let files = &mut disk.directories[self.directory].files;
        let sectors = files.get_mut(&(base, false)).ok_or(io::ErrorKind::NotFound)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let range = offset..offset + bytes.len();
        // A file that was cut short grows again by what is written behind its end.
        sectors.seen.resize(range.end.max(sectors.seen.len()), 0);
        sectors.medium.resize(sectors.seen.len(), 0);
        sectors.seen.get_mut(range.clone()).ok_or(io::ErrorKind::StorageFull)?.copy_from_slice(bytes);
        let touched = offset / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES);
        match fault {
            Some(WriteFault::PowerCut) => {
                sectors.dirty.extend(touched);
                disk.down = true;
                return Err(io::Error::other("the simulated power is cut"));
            }
            Some(WriteFault::SyncError) => {
                for sector in touched {
                    sectors.dirty.remove(&sector);
                }
                disk.fault = None;
                return Err(io::Error::other("simulated EIO"));
            }
            _ if lies => sectors.dirty.extend(touched),
            _ => {
                for sector in touched {
                    let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(sectors.seen.len());
                    sectors.medium[range.clone()].copy_from_slice(&sectors.seen[range]);
                    sectors.dirty.remove(&sector);
                }
            }
        }
        Ok(bytes.len())
    }

    fn view(&self, file: SegmentFile) -> io::Result<Vec<u8>> {
        let mut disk = self.disk.lock();
        let files = &disk.up()?.directories[self.directory].files;
        let sectors = files.get(&(file.base, file.set_aside)).or_else(|| files.get(&(file.base, true)));
        Ok(sectors.ok_or(io::ErrorKind::NotFound)?.seen.clone())
    }

    fn read(&self, file: SegmentFile, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let view = self.view(file)?;
        let read = view.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(read);
        Ok(())
    }

    fn set_aside(&self, base: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let files = &mut disk.change()?.directories[self.directory].files;
        let sectors = files.remove(&(base, false)).ok_or(io::ErrorKind::NotFound)?;
        files.insert((base, true), sectors);
        Ok(())
    }

    fn missing(&self) -> io::Result<Vec<(u64, u64)>> {
        Ok(self.disk.lock().up()?.directories[self.directory].missing.clone())
    }

    fn note_missing(&self, from: u64, to: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let missing = &mut disk.change()?.directories[self.directory].missing;
        missing.push((from, to));
        missing.sort_unstable();
        Ok(())
    }

    fn oldest(&self) -> io::Result<Option<u64>> {
        Ok(self.disk.lock().up()?.directories[self.directory].oldest)
    }

    fn set_oldest(&self, oldest: u64) -> io::Result<()> {
        self.disk.lock().change()?.directories[self.directory].oldest = Some(oldest);
        Ok(())
    }

    fn delete(&self, file: SegmentFile) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let removed = disk.change()?.directories[self.directory].files.remove(&(file.base, file.set_aside));
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut disk = self.disk.lock();
        let disk = disk.up()?;
        Ok(disk.capacity_bytes.saturating_sub(disk.used()))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(split_mix(&mut self.disk.lock().random))
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
