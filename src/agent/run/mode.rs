//! The one thing that the agent is at beside its usual work; a move to another server among them: `muster-
//! agent move` has enrolled, looked whether the new server answers, and staged the new identity; here the old
//! server is left, and the new one taken up, in the same process.

use super::connection::Connection;
use super::leaving::{Asleep, Leaving};
use super::{Agent, LINK, Now, RunError, Wait, Waiter, random};
use crate::agent::address::ServerAddress;
use crate::agent::identity::Identity;
use crate::agent::local::server::ClientKey;
use crate::agent::moving;
use crate::agent::talk::tls_of;
use crate::machine::agent::SyncResult;
use crate::reactor::channel::ClientTls;
use crate::wire::datagram::NoticeKind;
use crate::wire::time::Moment;

/// One thing at a time. A move that is under way when the device goes to sleep goes on when it is back.
#[derive(Default)]
pub(super) enum Mode {
    /// Its usual work.
    #[default]
    Working,
    /// To another server, as soon as the old one can be left.
    Moving(Box<Move>),
    /// A shutdown notice is being said.
    Leaving(Leaving, Option<Box<Move>>),
    /// The device is about to sleep, or sleeps, or has just woken up.
    Asleep(Asleep, Option<Box<Move>>),
}

impl Mode {
    /// The shutdown notice that is being said.
    pub(super) fn leaving(&self) -> Option<&Leaving> {
        if let Self::Leaving(leaving, _) = self { Some(leaving) } else { None }
    }

    /// The same, to be changed.
    pub(super) fn leaving_mut(&mut self) -> Option<&mut Leaving> {
        if let Self::Leaving(leaving, _) = self { Some(leaving) } else { None }
    }

    /// Whether a shutdown notice is being said.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving().is_some()
    }

    /// Since when the device is about to sleep, or sleeps.
    pub(super) fn asleep(&self) -> Option<Asleep> {
        if let Self::Asleep(asleep, _) = self { Some(*asleep) } else { None }
    }

    /// A shutdown notice begins, whatever the agent was at.
    pub(super) fn leave(&mut self, leaving: Leaving) {
        let (_, moving) = self.take();
        *self = Self::Leaving(leaving, moving);
    }

    /// The shutdown notice is said, and the device sleeps from now on.
    pub(super) fn sleep(&mut self, asleep: Asleep) -> Option<Leaving> {
        let (leaving, moving) = self.take();
        *self = Self::Asleep(asleep, moving);
        leaving
    }

    /// Back at the usual work, or at the move.
    pub(super) fn resume(&mut self) -> Option<Leaving> {
        let (leaving, moving) = self.take();
        *self = moving.map_or(Self::Working, Self::Moving);
        leaving
    }

    fn take(&mut self) -> (Option<Leaving>, Option<Box<Move>>) {
        match std::mem::take(self) {
            Self::Working => (None, None),
            Self::Moving(moving) => (None, Some(moving)),
            Self::Leaving(leaving, moving) => (Some(leaving), moving),
            Self::Asleep(_, moving) => (None, moving),
        }
    }
}

/// Time of the old server to acknowledge what is on its way. Events that it does not acknowledge go to the
/// new one, so that both have them.
const GOODBYE_MILLISECONDS: u64 = 2_000;

/// A move that has been asked for.
pub(super) struct Move {
    /// The local program that waits for it; `None`: this machine is a copy of another device, and is to have
    /// an identity of its own.
    key: Option<ClientKey>,
    identity: Identity,
    server: ServerAddress,
    tls: ClientTls,
    until: Moment,
}

impl Move {
    /// To an identity of its own at the same server: there is nothing to wait for.
    pub(super) fn of_copy(identity: Identity, server: ServerAddress, tls: ClientTls, now: Moment) -> Self {
        Self { key: None, identity, server, tls, until: now }
    }
}

impl Agent {
    /// Gets ready to leave the old server. The answer is owed.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub(super) fn begin_move(&mut self, now: &Now, key: ClientKey) -> Result<(), String> {
        match &self.mode {
            Mode::Moving(_) | Mode::Asleep(_, Some(_)) => {
                return Err("a move is under way already".to_owned());
            }
            Mode::Leaving(..) => {
                return Err(
                    "the agent is sending its shutdown notice: try again when it has ended".to_owned()
                );
            }
            Mode::Working | Mode::Asleep(_, None) => {}
        }
        if let Some(server) = &self.settings.server {
            return Err(format!(
                "the configuration that the agent runs with says server = \"{server}\", which would win: remove that line first"
            ));
        }
        let identity = moving::staged(&self.directory)
            .map_err(|error| error.to_string())?
            .ok_or("no new server waits to be moved to: muster-agent move --server HOST --token-file FILE")?;
        let server = identity.server.parse().map_err(|error| format!("{error}"))?;
        let tls = tls_of(&identity).map_err(|error| error.to_string())?;
        log::info!("moving to {server}");
        let until = now.moment.plus_milliseconds(GOODBYE_MILLISECONDS);
        self.machine.end(now);
        // A device on which somebody moves it is awake.
        self.mode = Mode::Moving(Box::new(Move { key: Some(key), identity, server, tls, until }));
        Ok(())
    }

    /// When the move goes on at the latest.
    pub(super) fn move_timeout(&self) -> Option<Moment> {
        if let Mode::Moving(moving) = &self.mode { Some(moving.until) } else { None }
    }

    /// Leaves the old server as soon as it has acknowledged what is on its way, or has had its time.
    ///
    /// # Errors
    /// When something can't be written: the agent must be started again, and finds out who it is.
    pub(super) fn move_when_ready(&mut self, now: &Now) -> Result<(), RunError> {
        // An agent that ends leaves the commit to the command, which notices.
        let Mode::Moving(moving) = &self.mode else { return Ok(()) };
        let until = moving.until;
        // An acknowledgement that has come must be heeded before: events that it covers are not for the new
        // server.
        if self.may_act() {
            self.act(now)?;
        }
        if self.machine.is_connected() && !self.machine.has_delivered() && now.moment < until {
            return Ok(());
        }
        let Mode::Moving(moving) = std::mem::take(&mut self.mode) else { return Ok(()) };
        let Move { key, identity, server, tls, .. } = *moving;
        self.spool.close()?;
        match key {
            Some(_) => self.leave_server(),
            // The other machine is still there under the old identity. The rest of the spool counts anew.
            None => self.spool.begin_epoch(self.next_spool_epoch()?)?,
        }
        moving::commit(&self.directory, &identity)?;
        self.datagrams.belong_to(&identity);
        log::info!("device '{}' ({}), server {server}", identity.name, identity.device);
        self.machine = super::machine(&self.directory, &self.spool, self.datagrams.reach(), random()?)?;
        self.machine.set_identity(super::marks(&identity, &self.settings));
        self.hand_runs_in();
        // The old server's list is not asked for the new one; a copy stays with its server.
        let server = if key.is_none() { self.connection.server().clone() } else { server };
        self.connection = Connection::new(server, tls, LINK);
        self.identity = identity;
        self.identity.forget_private_key();
        self.candidate = None;
        self.judge_key();
        (self.connected_since, self.last_sync, self.last_error_at) = (None, None, None);
        self.sections.begin_anew();
        self.looking = None;
        self.waiting.iter_mut().for_each(|waiter| waiter.wait = Wait::ToCollect);
        self.waiting.extend(key.map(|key| Waiter { key, wait: Wait::ToCollect, is_mover: true }));
        self.has_more = true;
        Ok(())
    }

    /// The old server hears that no agent of its own runs there any more: it is told the truth, and does not
    /// wait.
    fn leave_server(&mut self) {
        let (goodbye, bytes) = self.datagrams.next_notice(NoticeKind::AgentStopped);
        self.part(goodbye);
        self.send_notice(&bytes);
    }
}

/// The answer to the command that moved the device when the first sync with the new server has ended.
pub(super) fn answer(result: &SyncResult) -> Vec<u8> {
    let problem = match result {
        SyncResult::InSync { .. } => return b"{\"moved\":true,\"synced\":true}".to_vec(),
        SyncResult::Later { seconds } => format!("it is busy, the agent comes again in {seconds} s"),
        SyncResult::Failed { reason } => reason.clone(),
    };
    serde_json::json!({ "moved": true, "synced": false, "problem": problem }).to_string().into_bytes()
}
