//! A server in the test's process.

use std::net::SocketAddr;
use std::path::Path;

use muster::reactor::channel::{ClientTls, ExpectedServer};
use muster::server::Server;
use muster::server::config::Config;
use muster::store::NewToken;
use muster::wire::message::ErrorReport;
use muster::wire::time::WallTime;
use muster::wire::token::JoinToken;

use super::{Connection, Device};

/// On a free port, in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) directory: tempfile::TempDir,
    config: Config,
}

/// With all addresses listened on, over IPv4.
impl From<&Fixture> for SocketAddr {
    fn from(fixture: &Fixture) -> Self {
        let address = fixture.server.addresses()[0];
        if address.ip().is_unspecified() { ([127, 0, 0, 1], address.port()).into() } else { address }
    }
}

fn config(directory: &Path) -> Config {
    let mut config = Config::in_directory(directory);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.journal.segment_bytes = 1 << 20;
    config.journal.retention_bytes = 64 << 20;
    config.process.raise_descriptor_limit = true;
    config
}

impl Fixture {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        change(&mut config);
        Self { server: Server::start(config.clone()).unwrap(), directory, config }
    }

    /// Drains the server and starts another on the same directory.
    pub(crate) fn restart(&mut self) {
        let elsewhere = tempfile::tempdir().unwrap();
        let placeholder = Server::start(config(elsewhere.path())).unwrap();
        std::mem::replace(&mut self.server, placeholder).drain().unwrap();
        let again = Server::start(self.config.clone()).unwrap();
        std::mem::replace(&mut self.server, again).drain().unwrap();
    }

    /// Has the running server take handshakes at this rate.
    pub(crate) fn limit_handshakes(&mut self, per_second: usize) {
        let mut config = self.server.config().clone();
        config.links.handshakes_per_second = Some(per_second);
        self.server.reload(&config).unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.into()
    }

    pub(crate) fn token(&self, uses_max: u32) -> JoinToken {
        let new = NewToken {
            group: "/".into(),
            created_at: WallTime(1),
            expires_at: WallTime(u64::MAX >> 2),
            uses_max,
            ..NewToken::default()
        };
        let created = self.server.store().devices().create_token(new).unwrap();
        let server_certificate = self.server.certificate();
        JoinToken { id: created.token.id, secret: created.secret, server_certificate }
    }

    pub(crate) fn enrol(&self, name: &str) -> Device {
        self.try_enrol(&self.token(1), name).unwrap()
    }

    /// Enrols `kiosk-0` and so on.
    pub(crate) fn enrol_many(&self, count: usize) -> Vec<Device> {
        Device::enrol_many(self.address(), &self.token(u32::try_from(count).unwrap()), count)
    }

    pub(crate) fn try_enrol(&self, token: &JoinToken, name: &str) -> Result<Device, ErrorReport> {
        Device::enrol(self, token, name)
    }

    /// A connection without a certificate.
    pub(crate) fn stranger(&self) -> Connection {
        let tls = ClientTls::new(ExpectedServer::Hash(self.server.certificate()), None).unwrap();
        Connection::open(self, &tls)
    }
}
