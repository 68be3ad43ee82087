//! A lease in the data directory, for disks that several machines share: there the lock of the directory
//! (flock(2)) may reach no further than this machine.
//!
//! The one that holds it writes every [`Times::renewal`]. Another takes it when it has not changed for
//! [`Times::expiry`] by its own clock: no wall clock is asked, and none is compared with another machine's.
//! A holder that could not write for [`Times::overdue`], or finds another's lease, has lost it and must write
//! nothing any more. So two serve at a time only if one of them stands still between reading its lease and a
//! write (a stopped process, a paused machine): what keeps that one from the disk is fencing, which is a
//! matter of the cluster.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::reactor::random;

/// Name of the file; empty when nobody holds the lease.
const FILE: &str = "lease";

/// Length of what is written: one block of any disk, so that nobody reads half of it.
const ENTRY_BYTES: usize = 512;

/// Interval at which another's lease is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The times of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Between two writes.
    pub(super) renewal: Duration,
    /// Without a write, after which it counts as lost for its holder.
    pub(super) overdue: Duration,
    /// Without a change, after which it counts as free for others.
    pub(super) expiry: Duration,
    /// After taking it, before it is read back: another may have taken it at the same moment.
    pub(super) settling: Duration,
}

impl Times {
    /// Those of a server.
    pub(super) const SERVER: Self = Self {
        renewal: Duration::from_secs(2),
        overdue: Duration::from_secs(6),
        expiry: Duration::from_secs(10),
        settling: Duration::from_secs(1),
    };
}

/// Content of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Entry {
    /// Drawn when the lease is taken.
    holder: u64,
    /// Name of the machine, for people.
    machine: String,
    /// The start of the machine and the namespace in which `process` means something; empty when the system
    /// does not tell.
    place: String,
    process: u32,
    /// Rises with each write.
    renewals: u64,
}

impl Entry {
    fn own() -> Self {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // A name may have 64 bytes (uname(2)); a longer one would not fit.
        let machine = machine.chars().take(64).collect();
        Self { holder: random(), machine, place: place(), process: std::process::id(), renewals: 0 }
    }

    /// Whether its process is gone, as far as that can be known here.
    fn is_gone(&self) -> bool {
        let is_here = !self.place.is_empty() && self.place == place();
        is_here && !Path::new(&format!("/proc/{}", self.process)).exists()
    }

    fn write(&self, file: &File) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.resize(ENTRY_BYTES, b' ');
        file.write_all_at(&bytes, 0)?;
        file.sync_data()
    }
}

/// This start of the machine, and the namespace of processes (pid_namespaces(7)).
fn place() -> String {
    let started = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (started, namespace) {
        (Ok(started), Ok(namespace)) => format!("{} {}", started.trim(), namespace.display()),
        _ => String::new(),
    }
}

/// Content of the file; `None`: nobody's.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Opened each time: a network file system asks its server then (nfs(5), close-to-open).
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(ENTRY_BYTES as u64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// Whether several machines can have the file system of this directory mounted (statfs(2)).
#[cfg(target_os = "linux")]
pub(super) fn is_shared(directory: &Path) -> bool {
    /// NFS, SMB (twice), Ceph, GFS2, OCFS2, Lustre, 9P, FUSE, AFS: of linux/magic.h and their own sources.
    const TYPES: [u32; 10] = [
        0x6969,
        0xff53_4d42,
        0xfe53_4d42,
        0x00c3_6400,
        0x0116_1970,
        0x7461_636f,
        0x0bd0_0bd0,
        0x0102_1997,
        0x6573_5546,
        0x5346_414f,
    ];
    // The numbers have 32 bits, whatever the field has.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    rustix::fs::statfs(directory).is_ok_and(|found| TYPES.contains(&(found.f_type as u32)))
}

/// Elsewhere the setting says so.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_shared(_: &Path) -> bool {
    false
}

/// Polls the lease of this directory for as long as it takes to know whether somebody renews it. The holder,
/// as a text, when somebody does.
pub(super) fn held_by_another(directory: &Path, times: &Times) -> io::Result<Option<String>> {
    let path = directory.join(FILE);
    let Some(found) = read(&path)? else { return Ok(None) };
    let entry = serde_json::from_slice::<Entry>(&found).ok();
    if entry.as_ref().is_some_and(Entry::is_gone) {
        return Ok(None);
    }
    let name = entry.map_or_else(
        || "another machine".to_owned(),
        |entry| format!("process {} on {}", entry.process, entry.machine),
    );
    log::info!("{} is of {name}: it counts when it changes within {:?}", path.display(), times.expiry);
    let until = Instant::now() + times.expiry;
    while Instant::now() < until {
        sleep(POLL_INTERVAL.min(times.renewal));
        match read(&path)? {
            None => return Ok(None),
            Some(now) if now != found => return Ok(Some(name)),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// A lease that is held while this value lives.
#[derive(Debug)]
pub(super) struct Lease {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lease {
    /// Takes the lease, which nobody holds. `lost` is told from a thread of its own, at most once, that it is
    /// another's or can't be kept.
    ///
    /// # Errors
    /// When the system refuses, or another took it at the same moment.
    pub(super) fn take(
        directory: &Path,
        times: Times,
        lost: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Self> {
        let path = directory.join(FILE);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let entry = Entry::own();
        let begun = Instant::now();
        entry.write(&file)?;
        sleep(times.settling);
        let mut holder = Holder { path, file, entry, renewed: begun };
        holder.must_be_own().map_err(io::Error::other)?;
        let (stop, stopped) = bounded::<()>(0);
        let renew = move || {
            loop {
                match stopped.recv_timeout(times.renewal) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return holder.let_go(),
                }
                if let Err(why) = holder.renew(&times) {
                    return lost(format!("the lease of {} is lost: {why}", holder.path.display()));
                }
            }
        };
        let thread = std::thread::Builder::new().name("lease".into()).spawn(renew)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Holder {
    path: PathBuf,
    file: File,
    entry: Entry,
    /// Before the last write that is on the disk began.
    renewed: Instant,
}

impl Holder {
    /// Why it is lost, when it is. A write that fails is tried again while there is time.
    fn renew(&mut self, times: &Times) -> Result<(), String> {
        let begun = Instant::now();
        let since = begun - self.renewed;
        if since > times.overdue {
            return Err(format!("it was not renewed for {} s, and another may have it", since.as_secs()));
        }
        self.must_be_own()?;
        self.entry.renewals += 1;
        match self.entry.write(&self.file) {
            Ok(()) => self.renewed = begun,
            Err(error) => log::warn!("{} can't be renewed: {error}", self.path.display()),
        }
        Ok(())
    }

    fn must_be_own(&self) -> Result<(), String> {
        match read(&self.path) {
            Ok(found) => match found.as_deref().map(serde_json::from_slice::<Entry>) {
                Some(Ok(entry)) if entry.holder == self.entry.holder => Ok(()),
                Some(Ok(entry)) => Err(format!("process {} on {} has it", entry.process, entry.machine)),
                Some(Err(_)) | None => Err("the file was changed by something else".to_owned()),
            },
            // Nobody's word: the time decides.
            Err(error) => {
                log::warn!("{} can't be read: {error}", self.path.display());
                Ok(())
            }
        }
    }

    /// Frees it, so that the next one need not wait.
    fn let_go(&self) {
        if self.must_be_own().is_ok()
            && let Err(error) = self.file.set_len(0).and_then(|()| self.file.sync_all())
        {
            log::warn!("{} stays, and others wait until it has ended: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests;
