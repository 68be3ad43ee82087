//! Watching the package databases and the applications' directory, so that a change is noticed at once.
//!
//! Linux has inotify(7) for it. Elsewhere nothing is watched, and the timer that looks at the files' states
//! is all there is; it is there on Linux too, for what inotify can't see (a network file system). Of a
//! directory that is not there yet the nearest above it is watched.

use super::settings::Settings;

/// The changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noticed {
    /// A package database.
    pub inventory: bool,
    /// The definition of an application.
    pub applications: bool,
    /// A directory that was not there, or one that is gone: there are others to watch.
    pub directories: bool,
}

impl Noticed {
    /// Whether anything has.
    #[must_use]
    pub fn any(self) -> bool {
        self.inventory || self.applications || self.directories
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::path::{Path, PathBuf};

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use rustix::io::Errno;

    use super::{Noticed, Settings};
    use crate::agent::collect::inventory;

    /// Entries of a directory that matter.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Wanted {
        /// These files of a package database.
        Databases(Vec<String>),
        /// Every definition of an application.
        Definitions,
        /// The next directory on the way to one that is not there yet.
        Directory(String),
    }

    /// Directories to watch. In place of one that is not there: the nearest above it.
    fn places(settings: &Settings) -> Vec<(PathBuf, Wanted)> {
        let mut places: Vec<(PathBuf, Wanted)> = Vec::new();
        for file in inventory::database_files(&settings.collect) {
            let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else { continue };
            let name = name.to_string_lossy().into_owned();
            match places.iter_mut().find(|(known, _)| known == directory) {
                Some((_, Wanted::Databases(names))) => names.push(name),
                _ => places.push((directory.to_owned(), Wanted::Databases(vec![name]))),
            }
        }
        places.push((settings.applications.clone(), Wanted::Definitions));
        places.into_iter().filter_map(|(directory, wanted)| nearest(&directory, wanted)).collect()
    }

    fn nearest(directory: &Path, wanted: Wanted) -> Option<(PathBuf, Wanted)> {
        if directory.is_dir() {
            return Some((directory.to_owned(), wanted));
        }
        let next = directory.file_name()?.to_string_lossy().into_owned();
        nearest(directory.parent()?, Wanted::Directory(next))
    }

    /// The paths that inotify watches.
    #[derive(Debug)]
    pub struct Watch {
        inotify: OwnedFd,
        watched: Vec<(i32, Wanted)>,
    }

    impl Watch {
        /// Watches what `settings` asks for, as far as it is there.
        ///
        /// # Errors
        /// When the system refuses: without a watch the timer does.
        pub fn new(settings: &Settings, registry: &Registry, token: Token) -> io::Result<Self> {
            let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            registry.register(&mut SourceFd(&inotify.as_raw_fd()), token, Interest::READABLE)?;
            // dpkg replaces its status file by a rename, apk too; SQLite writes in place and closes rarely.
            let of_files =
                WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE | WatchFlags::MODIFY;
            let mut watched = Vec::new();
            for (directory, wanted) in places(settings) {
                let flags = match wanted {
                    Wanted::Directory(_) => WatchFlags::MOVED_TO | WatchFlags::CREATE,
                    _ => of_files | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF,
                };
                // A directory has one watch, whatever it is watched for.
                let flags = flags | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD;
                match inotify::add_watch(&inotify, &directory, flags) {
                    Ok(number) => watched.push((number, wanted)),
                    Err(error) => log::warn!("{} can't be watched: {error}", directory.display()),
                }
            }
            Ok(Self { inotify, watched })
        }

        /// Returns the changes since the last time.
        pub fn read(&mut self) -> Noticed {
            let mut noticed = Noticed::default();
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(Errno::INTR) => continue,
                    Err(_) => return noticed,
                };
                let is_gone = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
                if event.events().intersects(is_gone | ReadFlags::QUEUE_OVERFLOW) {
                    noticed = Noticed { inventory: true, applications: true, directories: true };
                    continue;
                }
                let name =
                    event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                for (_, wanted) in self.watched.iter().filter(|(number, _)| *number == event.wd()) {
                    match wanted {
                        Wanted::Databases(names) => noticed.inventory |= names.contains(&name),
                        Wanted::Definitions => noticed.applications |= name.ends_with(".toml"),
                        Wanted::Directory(next) => noticed.directories |= *next == name,
                    }
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use mio::{Registry, Token};

    use super::{Noticed, Settings};

    /// Nothing is watched here.
    #[derive(Debug)]
    pub struct Watch;

    impl Watch {
        /// Watches nothing.
        ///
        /// # Errors
        /// Never.
        pub fn new(_: &Settings, _: &Registry, _: Token) -> io::Result<Self> {
            Ok(Self)
        }

        /// Nothing was noticed.
        pub fn read(&mut self) -> Noticed {
            Noticed::default()
        }
    }
}

pub use system::Watch;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::agent::collect::dpkg;

    #[test]
    fn a_replaced_status_file_and_a_new_definition_are_noticed_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let status = root.path().join(dpkg::STATUS_FILE);
        let mut settings =
            Settings { applications: root.path().join("applications.d"), ..Settings::default() };
        settings.collect.root = root.path().to_owned();
        fs::create_dir_all(status.parent().unwrap()).unwrap();
        fs::create_dir_all(&settings.applications).unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let mut watch = Watch::new(&settings, poll.registry(), mio::Token(0)).unwrap();
        fs::write(status.with_file_name("lock"), "").unwrap();
        assert!(!watch.read().any());
        fs::write(status.with_file_name("status-new"), "x").unwrap();
        fs::rename(status.with_file_name("status-new"), &status).unwrap();
        let mut events = mio::Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
        assert!(!events.is_empty(), "the loop is woken");
        assert_eq!(watch.read(), Noticed { inventory: true, ..Noticed::default() });
        fs::write(settings.applications.join("shop.toml"), "").unwrap();
        assert_eq!(watch.read(), Noticed { applications: true, ..Noticed::default() });
    }

    #[test]
    fn a_directory_that_is_made_later_is_noticed_step_by_step_and_so_is_its_end() {
        let root = tempfile::tempdir().unwrap();
        let mut settings =
            Settings { applications: root.path().join("etc/muster/applications.d"), ..Settings::default() };
        settings.collect.root = root.path().join("none");
        let poll = mio::Poll::new().unwrap();
        let new = || Watch::new(&settings, poll.registry(), mio::Token(0)).unwrap();
        let mut watch = new();
        for step in ["etc", "etc/muster", "etc/muster/applications.d"] {
            fs::write(root.path().join(step).with_file_name("other"), "").unwrap();
            assert!(!watch.read().any(), "{step}");
            fs::create_dir(root.path().join(step)).unwrap();
            assert_eq!(watch.read(), Noticed { directories: true, ..Noticed::default() }, "{step}");
            // The one before takes its watches with it.
            drop(watch);
            watch = new();
        }
        fs::write(settings.applications.join("shop.toml"), "").unwrap();
        assert_eq!(watch.read(), Noticed { applications: true, ..Noticed::default() });
        fs::remove_dir_all(&settings.applications).unwrap();
        assert!(watch.read().directories);
    }
}
