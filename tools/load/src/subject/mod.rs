//! The server under load: one that the tool starts for itself, or one that is there.

pub(crate) mod child;
pub(crate) mod directory;
pub(crate) mod own;

use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::os::unix::net::UnixStream;

use muster::agent::address::ServerAddress;
use muster::client::{Address, Client};

use crate::failure::Failure;
use own::OwnServer;

/// The server under load.
pub(crate) struct Subject {
    /// The tool's own, with `--self`.
    pub(crate) own: Option<OwnServer>,
    /// Address that devices connect to.
    pub(crate) address: SocketAddr,
    /// Address for administrators.
    pub(crate) admin: Address,
    /// The process of another's, when it runs on this machine.
    other_pid: Option<u32>,
}

impl Subject {
    /// The tool's own.
    pub(crate) fn own(server: OwnServer) -> Self {
        let admin = Address::Socket(server.admin.clone());
        Self { address: server.address, own: Some(server), admin, other_pid: None }
    }

    /// One that is there.
    pub(crate) fn other(server: &ServerAddress, admin: Address, pid: Option<u32>) -> Result<Self, Failure> {
        let addresses =
            server.resolve().map_err(|why| Failure::refused(format!("{why} (check --server)")))?;
        let address = *addresses
            .first()
            .ok_or_else(|| Failure::refused(format!("{server} has no address (check --server)")))?;
        let other_pid = pid.or_else(|| process_behind(&admin));
        Ok(Self { own: None, address, admin, other_pid })
    }

    /// Its process, when it runs on this machine.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(OwnServer::pid).or(self.other_pid)
    }

    /// A connection to its administration.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(self.admin.clone()).map_err(Failure::refused)
    }

    /// Why the run can't go on, when the tool's own server has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        if let Some(own) = &mut self.own
            && own.has_died()
        {
            return Err(own.failure("the server of --self has ended in the middle of the run"));
        }
        Ok(())
    }
}

/// Which process listens at the administration socket (`SO_PEERCRED`, socket(7)).
#[cfg(target_os = "linux")]
fn process_behind(admin: &Address) -> Option<u32> {
    let Address::Socket(socket) = admin else { return None };
    let stream = UnixStream::connect(socket).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
}

/// Elsewhere `--pid` names it.
#[cfg(not(target_os = "linux"))]
fn process_behind(_: &Address) -> Option<u32> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_behind_a_socket_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(process_behind(&Address::Socket(socket)), Some(std::process::id()));
        assert_eq!(process_behind(&Address::Socket(directory.path().join("none"))), None);
    }
}
