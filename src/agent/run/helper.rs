//! Work that would block the loop is done by short threads, one of each kind at a time: asking the resolver,
//! and collecting (which may run other programs, each with a bound on its time).

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::Waker;

use super::collecting::{Collected, Pieces, STACK_BYTES, collect, manage};
use crate::agent::address::ServerAddress;
use crate::agent::artifact::{Fault, ToCheck};
use crate::agent::collect::inventory;
use crate::agent::context::wall_time;
use crate::agent::enroll::enroll_copy;
use crate::agent::identity::{Identity, KeyType};
use crate::agent::managed;
use crate::agent::moving;
use crate::agent::settings::Settings;
use crate::agent::shutdown;
use crate::agent::signature;
use crate::reactor::channel::ExpectedServer;
use crate::wire::datagram::NoticeKind;
use crate::wire::id::RunId;
use crate::wire::message::Fork;
use crate::wire::task::RunStage;

/// Result of a helper.
pub(super) enum Outcome {
    /// The addresses of this server.
    Resolved(ServerAddress, Result<Vec<SocketAddr>, String>),
    Collected(Box<Collected>),
    /// Why the agent ends.
    Why(NoticeKind),
    /// Outcome of a piece of work on settings.
    Managed(managed::Outcome),
    /// The artifact of this run was checked: the comment of its signature, if there is one.
    Checked(RunId, Result<Option<String>, Fault>),
    /// An enrolment as a device of its own has ended.
    Forked(Result<Box<Identity>, String>),
    /// The helper of this name has panicked.
    Panicked(&'static str),
    /// No helper: the program that embeds the agent connects as local programs do.
    Connected(UnixStream),
    /// It wants the agent to end, for this reason.
    ToEnd(NoticeKind),
}

/// The way to an agent for the program that embeds it.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Remote {
    sender: Sender<Outcome>,
    waker: Arc<Waker>,
}

impl Remote {
    /// Connects as local programs do. Whether anybody hears it shows when something is asked.
    pub(in crate::agent) fn connect(&self, stream: UnixStream) {
        self.tell(Outcome::Connected(stream));
    }

    /// Asks it to end.
    pub(in crate::agent) fn end(&self, why: NoticeKind) {
        self.tell(Outcome::ToEnd(why));
    }

    fn tell(&self, outcome: Outcome) {
        // When nobody listens any more the agent has ended.
        let _ = self.sender.send(outcome);
        let _ = self.waker.wake();
    }
}

pub(super) struct Helpers {
    sender: Sender<Outcome>,
    receiver: Receiver<Outcome>,
    waker: Arc<Waker>,
    /// State that collections left behind.
    pieces: Pieces,
}

impl Helpers {
    pub(super) fn new(waker: Waker) -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver, waker: Arc::new(waker), pieces: Pieces::default() }
    }

    pub(super) fn remote(&self) -> Remote {
        Remote { sender: self.sender.clone(), waker: Arc::clone(&self.waker) }
    }

    pub(super) fn next(&self) -> Option<Outcome> {
        self.receiver.try_recv().ok()
    }

    pub(super) fn resolve(&self, server: &ServerAddress) -> io::Result<()> {
        let server = server.clone();
        self.spawn("resolve", move || {
            let addresses = server.resolve();
            Outcome::Resolved(server, addresses)
        })
    }

    /// Asks the service manager why the agent ends.
    pub(super) fn ask_why(&self, root: &Path) -> io::Result<()> {
        let root = root.to_owned();
        self.spawn("why", move || Outcome::Why(shutdown::kind(&root)))
    }

    /// Works on settings.
    pub(super) fn manage(&self, work: managed::Work) -> io::Result<()> {
        let pieces = self.pieces.clone();
        self.spawn("manage", move || Outcome::Managed(manage(work, &pieces)))
    }

    /// Checks an artifact, and its signature if there is one.
    pub(super) fn check(
        &self,
        run: RunId,
        file: ToCheck,
        signature: Option<String>,
        settings: &Settings,
        data: &Path,
    ) -> io::Result<()> {
        let (settings, data) = (settings.clone(), data.to_owned());
        self.spawn("artifact", move || {
            let judge = |text: String| signature::check(&file.path, &text, &settings, &data);
            let judge = |text| judge(text).map_err(|why| Fault::Ends(RunStage::Rejected, why));
            Outcome::Checked(run, file.check().and_then(|()| signature.map(judge).transpose()))
        })
    }

    /// Enrols this machine as a device of its own, and looks whether the server answers that.
    pub(super) fn fork(
        &self,
        server: &ServerAddress,
        trusted: ExpectedServer,
        fork: Fork,
        key_type: KeyType,
        data: &Path,
    ) -> io::Result<()> {
        let (server, data) = (server.clone(), data.to_owned());
        self.spawn("fork", move || {
            let enrolled = enroll_copy(&server, trusted, &fork, key_type, &data, wall_time());
            Outcome::Forked(enrolled.map_err(|error| error.to_string()).and_then(|new| {
                moving::verify(&server, &new.identity, new.is_waiting)?;
                Ok(Box::new(new.identity))
            }))
        })
    }

    /// `known`: the state of the databases when they were read last.
    pub(super) fn collect(
        &self,
        settings: &Settings,
        data: &Path,
        known: Option<inventory::Fingerprint>,
    ) -> io::Result<()> {
        let (settings, data, pieces) = (settings.clone(), data.to_owned(), self.pieces.clone());
        self.spawn("collect", move || {
            Outcome::Collected(Box::new(collect(&settings, &data, known.as_ref(), &pieces)))
        })
    }

    fn spawn(&self, name: &'static str, job: impl FnOnce() -> Outcome + Send + 'static) -> io::Result<()> {
        let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
        let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            // Nothing that it worked on is used after a panic: the agent ends.
            let outcome = catch_unwind(AssertUnwindSafe(job)).unwrap_or(Outcome::Panicked(name));
            // When nobody listens any more the agent is ending.
            let _ = sender.send(outcome);
            let _ = waker.wake();
        })?;
        drop(thread);
        Ok(())
    }
}
