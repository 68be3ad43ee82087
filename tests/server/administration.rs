//! Administration over the network: a real server, musterctl from elsewhere, and those who mean no good.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::kit::admin::Ran;
use crate::kit::{Musterd, eventually};
use muster::client::{Address, Client};
use muster::reactor::channel::{ClientTls, ExpectedServer};
use muster::wire::api::{ErrorCode, NewApiToken, NewArtifact};
use muster::wire::id::ArtifactHash;
use muster::wire::role::Role;
use muster::wire::token::ApiTokenText;

/// A server with a port for administrators, and the directory of one of them.
pub(crate) struct Scene {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) server: Musterd,
    pub(crate) port: SocketAddr,
    /// Certificates that the port showed last, DER.
    shown: Mutex<Vec<Vec<u8>>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(|_| String::new())
    }

    /// With these settings of the port besides.
    pub(crate) fn with(settings: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = Musterd::start(directory.path(), &format!("[admin]\nlisten = \"{port}\"\n{settings}"));
        Self { directory, server, port, shown: Mutex::default() }
    }

    pub(crate) fn root(&self) -> Client {
        Client::new(Address::Socket(self.server.data.join("admin.sock"))).unwrap()
    }

    fn token(&self, role: Role, group: Option<&str>) -> ApiTokenText {
        let new = NewApiToken { name: "anna".into(), role, group: group.map(Into::into), ttl_seconds: None };
        let token = self.root().create_api_token(&new).unwrap().token.parse().unwrap();
        eventually("the port opens", || TcpStream::connect(self.port).is_ok());
        token
    }

    fn client(&self, token: &ApiTokenText) -> Client {
        let mut client = Client::new(Address::Network(self.port.to_string())).unwrap();
        client.sign_in(token);
        client
    }

    /// Runs musterctl as somebody elsewhere does.
    pub(crate) fn ctl(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_musterctl"));
        command.env_clear().env("HOME", self.directory.path().join("home"));
        command.args(["--server", &format!("https://{}", self.port)]).args(arguments);
        let file = self.directory.path().join("input");
        std::fs::write(&file, input).unwrap();
        Ran::of(command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap())
    }

    /// Says something over TLS, and reads the answer to its end.
    pub(crate) fn say(&self, text: &str) -> String {
        let expected = ExpectedServer::Hash(self.server.status().certificate_sha256.parse().unwrap());
        let tls = ClientTls::of_administrator(expected).unwrap();
        let mut connection = rustls::ClientConnection::new(tls.config(), tls.name()).unwrap();
        let mut stream = TcpStream::connect(self.port).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut stream);
        let _ = stream.write_all(text.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        *self.shown.lock().unwrap() =
            connection.peer_certificates().unwrap_or_default().iter().map(|one| one.to_vec()).collect();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The certificates that the port shows.
    fn shown(&self) -> Vec<Vec<u8>> {
        self.say("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        self.shown.lock().unwrap().clone()
    }
}

#[test]
fn somebody_elsewhere_signs_in_asks_and_is_forgotten() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    assert!(TcpStream::connect(scene.port).is_err(), "nothing listens before anybody could sign in");
    assert_eq!(scene.server.status().administration, None);
    let token = scene.token(Role::Operator, None);
    assert_eq!(scene.server.status().administration, Some(format!("https://{}", scene.port)));
    let before = scene.ctl(&["device", "list"], "");
    assert_eq!(before.code, 1);
    assert!(before.err.contains("not signed in at https://"), "{}", before.err);
    let wrong = scene.ctl(&["login"], "musterapi1-abc\n");
    assert!(wrong.err.contains("incomplete or mistyped"), "{}", wrong.err);
    let signed_in = scene.ctl(&["login"], &format!("{token}\n"));
    assert_eq!(signed_in.code, 0, "{}", signed_in.err);
    assert!(!signed_in.out.contains(&token.to_string()));
    let kept = scene.directory.path().join("home/.config/muster/tokens.json");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(kept.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert!(scene.ctl(&["status"], "").out.contains("administration"));
    let refused = scene.ctl(&["group", "create", "/berlin"], "");
    assert!(refused.err.contains("this needs the role policy-author on /"), "{}", refused.err);
    let rows = scene.root().audit(muster::wire::api::AuditQuery::default()).next().unwrap().unwrap();
    assert_eq!(rows[0].origin, "127.0.0.1");
    assert_eq!(rows[0].actor, format!("api token {} (anna)", token.id));
    scene.root().revoke_api_token(token.id).unwrap();
    assert!(scene.ctl(&["status"], "").err.contains("has expired or was revoked"));
    assert_eq!(scene.ctl(&["logout"], "").code, 0);
    assert!(scene.ctl(&["status"], "").err.contains("not signed in"));
    // Without --server https nobody signs in.
    assert_eq!(scene.ctl(&["--server", "unix:/nowhere", "login"], "").code, 2);
}

#[test]
fn only_the_server_that_the_token_names_is_spoken_to_and_a_rotation_is_followed() {
    let scene = Scene::new();
    let token = scene.token(Role::Administrator, None);
    let mut foreign = token.clone();
    foreign.server_certificate.0[0] ^= 1;
    let error = scene.client(&foreign).status().unwrap_err().to_string();
    assert!(error.contains("is not the server that the API token or the link is for"), "{error}");
    let mut client = scene.client(&token);
    assert!(client.status().is_ok());
    let before = scene.server.status().certificate_sha256;
    scene.server.ctl(&["certificate", "prepare"]);
    scene.server.ctl(&["certificate", "switch"]);
    assert_ne!(scene.server.status().certificate_sha256, before);
    assert!(scene.client(&token).status().is_ok(), "the old key vouches for the new one");
    // musterctl keeps the new one as soon as it has met it, and needs no other token when the old one goes.
    assert_eq!(scene.ctl(&["login"], &format!("{token}\n")).code, 0);
    let kept = scene.directory.path().join("home/.config/muster/tokens.json");
    let names_the_old_one = || std::fs::read_to_string(&kept).unwrap().contains(&token.to_string());
    assert!(names_the_old_one());
    assert_eq!(scene.ctl(&["status"], "").code, 0);
    assert!(!names_the_old_one());
    scene.server.ctl(&["certificate", "retire"]);
    assert!(scene.client(&token).status().is_err(), "nothing leads to the new one any more");
    let after = scene.ctl(&["status"], "");
    assert_eq!((after.code, after.err.as_str()), (0, ""));
}

/// Writes a certificate with its key, and another certificate behind it; both of them, DER.
pub(crate) fn write_files(directory: &Path) -> [Vec<u8>; 2] {
    use std::os::unix::fs::PermissionsExt as _;
    let made =
        [(); 2].map(|()| rcgen::generate_simple_self_signed(["muster.example.org".to_owned()]).unwrap());
    let (certificate, key) = (directory.join("port.pem"), directory.join("port.key"));
    std::fs::write(&key, made[0].signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&certificate, made.each_ref().map(|one| one.cert.pem()).concat()).unwrap();
    made.map(|one| one.cert.der().to_vec())
}

#[test]
fn administrators_see_the_certificate_of_the_files_and_need_no_other_token() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut written = None;
    // As credentials of the unit.
    let scene = Scene::with(|directory| {
        let directory = directory.join("credentials");
        std::fs::create_dir(&directory).unwrap();
        written = Some(write_files(&directory));
        let (certificate, key) = (directory.join("port.pem"), directory.join("port.key"));
        format!("certificate = {certificate:?}\nkey = {key:?}\n")
    });
    let credentials = scene.directory.path().join("credentials");
    let token = scene.token(Role::Administrator, None);
    let [own, further] = written.unwrap();
    let shown = scene.shown();
    assert_eq!((shown.first(), shown.last()), (Some(&own), Some(&further)));
    assert!(scene.client(&token).status().is_ok(), "the server's own key vouches for it");
    assert_eq!(scene.ctl(&["login"], &format!("{token}\n")).code, 0);
    let status = scene.server.ctl(&["certificate", "status"]);
    assert_eq!(status["files_sha256"], serde_json::Value::Null, "devices see the server's own");
    // Renewed, with another key.
    let [renewed, _] = write_files(&credentials);
    scene.server.hang_up();
    eventually("the renewed one is shown", || scene.shown().first() == Some(&renewed));
    assert_eq!(scene.ctl(&["status"], "").code, 0);
    // A key that others can read is none.
    write_files(&credentials);
    let key = credentials.join("port.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    scene.server.hang_up();
    let log = scene.directory.path().join("musterd.log");
    eventually("it is refused", || std::fs::read_to_string(&log).unwrap().contains("which [admin] names"));
    assert_eq!(scene.shown().first(), Some(&renewed));
    // The key of a rotation vouches anew.
    scene.server.ctl(&["certificate", "prepare"]);
    scene.server.ctl(&["certificate", "switch"]);
    assert!(scene.client(&token).status().is_ok());
}

#[test]
fn those_who_have_no_token_get_nothing_and_cost_little() {
    let scene = Scene::new();
    let good = scene.token(Role::Reader, Some("/"));
    // Plain HTTP, and no TLS at all.
    for bytes in [&b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\0\xff\0", b"SSH-2.0-x\r\n"] {
        let mut stream = TcpStream::connect(scene.port).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"));
    }
    let ask = |line: &str, more: &str| {
        scene.say(&format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n"))
    };
    for line in [
        "GET /v1/status",
        "GET //v1/status",
        "GET /v1/%2e%2e/v1/status",
        "GET https://x/v1/status",
        "GET /",
        "DELETE /v1/devices/a",
        "OPTIONS *",
        "CONNECT x:1",
        "TRACE /v1/status",
        "GET /v1/nothing",
    ] {
        let answer = ask(line, "");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{line}: {answer}");
    }
    let bearer = format!("authorization: Bearer {good}\r\n");
    assert!(ask("GET /v1/status", &bearer).starts_with("HTTP/1.1 200 "));
    assert!(ask("GET https://elsewhere/v1/status", &bearer).starts_with("HTTP/1.1 200 "), "the path counts");
    for line in ["GET //v1/status", "GET /v1/%2e%2e/v1/status", "GET /v1/../v1/status"] {
        assert!(ask(line, &bearer).starts_with("HTTP/1.1 404 "), "{line}");
    }
    // A body that nobody reads: the refusal comes first.
    let endless = scene
        .say("POST /v1/groups HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\nconnection: close\r\n\r\n{");
    assert!(endless.starts_with("HTTP/1.1 401 "), "{endless}");
    // Wrong tokens: after some, nothing is looked up any more. A good one waits, too, and the socket does
    // not.
    let mut wrong = good.clone();
    wrong.secret[0] ^= 1;
    let mut client = scene.client(&wrong);
    let codes: Vec<_> = (0..200).map(|_| client.status().unwrap_err().code()).collect();
    let looked_up = codes.iter().filter(|code| **code == Some(ErrorCode::Unauthenticated)).count();
    assert!((20..40).contains(&looked_up), "{looked_up}");
    assert_eq!(codes.last(), Some(&Some(ErrorCode::Busy)));
    assert_eq!(scene.client(&good).status().unwrap_err().code(), Some(ErrorCode::Busy));
    assert!(scene.root().status().is_ok());
}

#[test]
fn one_address_can_not_take_all_places_and_silent_ones_lose_theirs() {
    let scene = Scene::new();
    let token = scene.token(Role::Reader, Some("/"));
    let silent: Vec<_> = (0..100).filter_map(|_| TcpStream::connect(scene.port).ok()).collect();
    assert!(scene.root().status().is_ok(), "the socket has places of its own");
    eventually("those that say nothing lose their places", || scene.client(&token).status().is_ok());
    drop(silent);
}

#[test]
fn an_artifact_is_added_over_the_network_and_one_that_has_no_room_is_refused_in_words() {
    let scene = Scene::with(|_| "[artifacts]\ntotal_size = \"8MiB\"\n".to_owned());
    let mut client = scene.client(&scene.token(Role::Operator, None));
    let path = scene.directory.path().join("firmware.bin");
    let mut add = |mebibytes: usize| {
        std::fs::write(&path, vec![7; mebibytes << 20]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let new = NewArtifact { name: "firmware.bin".into(), ..NewArtifact::default() };
        client.add_artifact(&new, file, (mebibytes as u64) << 20)
    };
    let added = add(5).unwrap();
    assert_eq!((added.bytes, added.hash), (5 << 20, ArtifactHash::of(&vec![7; 5 << 20])));
    assert!(added.created_by.contains("(anna)"), "{}", added.created_by);
    // The server has answered long before it could have come.
    for _ in 0..5 {
        let refused = add(64).unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::Conflict), "{refused}");
    }
    assert_eq!(client.artifacts().flat_map(Result::unwrap).count(), 1);
}
