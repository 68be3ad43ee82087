//! Watching the package databases and the applications' directory, so that a change is noticed at once.
//!
//! Linux has inotify(7) for it. Elsewhere nothing is watched, and the timer that looks at the files' states is all there is;
//! it is there on Linux too, for what inotify can't see (a directory that was not there yet, a network file system).

use std::path::{Path, PathBuf};

use super::collect::inventory;
use super::settings::Settings;

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noticed {
    /// A package database.
    pub inventory: bool,
    /// The definition of an application.
    pub applications: bool,
}

impl Noticed {
    /// Whether anything has.
    #[must_use]
    pub fn any(self) -> bool {
        self.inventory || self.applications
    }
}

/// Directories to watch, and in each the names of the files that matter (none: all do).
fn places(settings: &Settings) -> Vec<(PathBuf, Option<Vec<String>>)> {
    let mut places: Vec<(PathBuf, Option<Vec<String>>)> = Vec::new();
    for file in inventory::database_files(&settings.collect) {
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else { continue };
        let name = name.to_string_lossy().into_owned();
        match places.iter_mut().find(|(known, _)| known == directory) {
            Some((_, Some(names))) => names.push(name),
            _ => places.push((directory.to_owned(), Some(vec![name]))),
        }
    }
    places.push((settings.applications.clone(), None));
    places.retain(|(directory, _)| Path::is_dir(directory));
    places
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use rustix::io::Errno;

    use super::{Noticed, Settings, places};

    /// What inotify watches.
    #[derive(Debug)]
    pub struct Watch {
        inotify: OwnedFd,
        watched: Vec<(i32, Option<Vec<String>>)>,
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
            let flags = WatchFlags::MOVED_TO
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::DELETE
                | WatchFlags::MODIFY
                | WatchFlags::ONLYDIR;
            let mut watched = Vec::new();
            for (directory, names) in places(settings) {
                match inotify::add_watch(&inotify, &directory, flags) {
                    Ok(number) => watched.push((number, names)),
                    Err(error) => log::warn!("{} can't be watched: {error}", directory.display()),
                }
            }
            Ok(Self { inotify, watched })
        }

        /// What has changed since the last time.
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
                if event.events().intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED) {
                    noticed = Noticed { inventory: true, applications: true };
                    continue;
                }
                let name =
                    event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                match self.watched.iter().find(|(number, _)| *number == event.wd()) {
                    Some((_, Some(names))) => noticed.inventory |= names.contains(&name),
                    Some((_, None)) => noticed.applications |= name.ends_with(".toml"),
                    None => {}
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
        assert_eq!(watch.read(), Noticed { inventory: true, applications: false });
        fs::write(settings.applications.join("shop.toml"), "").unwrap();
        assert_eq!(watch.read(), Noticed { inventory: false, applications: true });
    }
}
