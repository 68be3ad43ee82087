//! The installer for devices that have no agent yet: a script, and agents by the SHA-256 of their content.
//!
//! Nothing of it is secret, so nobody signs in for it. A device trusts the key that the line pins which
//! `musterctl token create` prints; the script then pins the same and trusts an agent by its hash alone.
//!
//! ```text
//! line ── key of the connection ──▶ script ── SHA-256 ──▶ agent ── token ──▶ certificate of the server
//! ```

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;

use super::access::Newcomer;
use super::connection::Caller;
use super::error::ApiError;
use super::extract::Path;
use super::{Shared, lines};
use crate::store::{Stamp, hash_of, read_piece};
use crate::wire::api::ErrorCode;
use crate::wire::id::ArtifactHash;

/// Machines for which an agent may be there, as uname(1) names them: the file of each is
/// `muster-agent-MACHINE`.
const MACHINES: [&str; 3] = ["x86_64", "aarch64", "armv7"];

/// Largest agent: those of today have 5 MiB, of a debug build 200.
const AGENT_BYTES_MAX: u64 = 1 << 30;

/// Bytes that are read at a time; no more of an agent is in memory for each download.
const PIECE_BYTES: usize = 64 * 1024;

/// Agents that are sent at once: they go over the port that administrators need, too.
const DOWNLOADS_MAX: usize = 16;

/// The same to one address, behind which a whole site may be.
const DOWNLOADS_OF_ADDRESS_MAX: usize = 8;

/// Media type of the script.
pub(super) const SCRIPT: &str = "text/x-shellscript";

/// Media type of an agent.
pub(super) const PROGRAM: &str = "application/octet-stream";

/// The agent of one kind of machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Agent {
    machine: &'static str,
    stamp: Stamp,
    sha256: ArtifactHash,
}

/// The agents in the directory, and those who fetch one.
pub(super) struct Agents {
    directory: PathBuf,
    /// Those that were read last, so that a file is hashed once.
    known: Arc<Mutex<Vec<Agent>>>,
    /// Address of each download.
    downloads: Arc<Mutex<Vec<IpAddr>>>,
}

/// The place of a download, until it is dropped.
struct Download {
    all: Arc<Mutex<Vec<IpAddr>>>,
    address: IpAddr,
}

impl Drop for Download {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(at) = all.iter().position(|address| *address == self.address) {
            all.swap_remove(at);
        }
    }
}

impl Agents {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, known: Arc::default(), downloads: Arc::default() }
    }

    /// Looks at the files; called on a blocking thread. One that can't be read is none.
    fn look(directory: &std::path::Path, known: &Mutex<Vec<Agent>>) -> Vec<(Agent, File)> {
        let before = known.lock().clone();
        let found: Vec<_> = MACHINES
            .into_iter()
            .filter_map(|machine| {
                let path = directory.join(format!("muster-agent-{machine}"));
                let read = read(machine, &path, &before);
                read.inspect_err(|error| {
                    if error.kind() != io::ErrorKind::NotFound {
                        log::warn!("{} can't be offered to devices: {error}", path.display());
                    }
                })
                .ok()
            })
            .collect();
        *known.lock() = found.iter().map(|(agent, _)| *agent).collect();
        found
    }

    /// A place to fetch an agent.
    fn place(&self, address: IpAddr) -> Result<Download, ApiError> {
        let mut all = self.downloads.lock();
        let own = all.iter().filter(|other| **other == address).count();
        if all.len() >= DOWNLOADS_MAX || own >= DOWNLOADS_OF_ADDRESS_MAX {
            return Err(busy("as many devices as may fetch the agent already: try again in a minute"));
        }
        all.push(address);
        Ok(Download { all: Arc::clone(&self.downloads), address })
    }
}

fn busy(text: &str) -> ApiError {
    ApiError::new(ErrorCode::Busy, text)
}

/// The agent in a file; hashed when it is another than before.
fn read(machine: &'static str, path: &std::path::Path, before: &[Agent]) -> io::Result<(Agent, File)> {
    // Looked at before it is opened: to open a FIFO would take until somebody writes to it.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = File::open(path)?;
    let found = file.metadata()?;
    if found.len() > AGENT_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {AGENT_BYTES_MAX} bytes")));
    }
    let stamp = Stamp::of(&found);
    if let Some(known) = before.iter().find(|known| known.machine == machine && known.stamp == stamp) {
        return Ok((*known, file));
    }
    Ok((Agent { machine, stamp, sha256: hash_of(&file)? }, file))
}

/// The name by which somebody reaches the server over the network: host, and port where it is not that of
/// HTTPS. Nothing at the socket.
pub(super) struct Reached(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Reached {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if parts.extensions.get::<Caller>().is_none_or(|caller| caller.address.is_none()) {
            return Ok(Self(None));
        }
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        // It becomes a part of a script.
        let is_name = |letter: u8| letter.is_ascii_alphanumeric() || b".:-_[]".contains(&letter);
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_name) {
            return Err(ApiError::invalid("the header Host must be a name or an address, with a port"));
        }
        Ok(Self(Some(host.to_owned())))
    }
}

/// Longest name of a host (RFC 1035 section 2.3.4), with a port.
const HOST_BYTES_MAX: usize = 261;

/// Host and port of the administrators' port: as those who ask reach it, otherwise by the first of the names
/// that the configuration has, or the machine's.
fn host(shared: &Shared, reached: Reached, port: SocketAddr) -> String {
    let info = &shared.context.info;
    reached.0.unwrap_or_else(|| match (&info.host_name, port.ip()) {
        (Some(name), _) => format!("{name}:{}", port.port()),
        (None, ip) if ip.is_unspecified() => format!("{}:{}", super::users::own_name(), port.port()),
        (None, _) => port.to_string(),
    })
}

/// The keys that the administrators' port may show, as curl(1) and wget(1) take them.
fn pins(shared: &Shared) -> String {
    let pins = shared.context.certificates.key_pins();
    pins.iter().map(|pin| format!("sha256//{}", STANDARD.encode(pin))).collect::<Vec<_>>().join(";")
}

/// The line to paste on a device, which installs the agent there and enrols it with the token; otherwise how
/// there will be one.
pub(super) async fn line(shared: &Arc<Shared>, reached: Reached, token: &str) -> Result<String, String> {
    let open = *shared.network.lock();
    let Some(port) = open else {
        return Err(match shared.context.network {
            None => "For one line that installs the agent, set listen in [admin] of the server's configuration, and restart it.",
            Some(_) => "For one line that installs the agent, make a user: 'musterctl user create' opens the administrators' port.",
        }
        .to_owned());
    };
    let (directory, known) = (shared.installer.directory.clone(), Arc::clone(&shared.installer.known));
    let found = shared.pool.run(move || Ok(!Agents::look(&directory, &known).is_empty())).await;
    if !found.unwrap_or(false) {
        return Err(format!(
            "For one line that installs the agent, put static agents into {} on the server, such as muster-agent-x86_64: package \
             musterd-agents, or tools/package/static.",
            shared.installer.directory.display()
        ));
    }
    let (host, pins) = (host(shared, reached, port), pins(shared));
    Ok(format!(
        "curl -fsS --tlsv1.3 -k --pinnedpubkey '{pins}' 'https://{host}/install' | MUSTER_TOKEN={token} sh"
    ))
}

/// Refuses those who ask too often.
fn check_rate(shared: &Shared, caller: &Caller) -> Result<IpAddr, ApiError> {
    let Some(address) = caller.address else { return Ok(Ipv4Addr::UNSPECIFIED.into()) };
    let (mut ration, now) = (shared.installs.lock(), shared.context.clock.moment());
    if !ration.may_take(&address, now) {
        return Err(busy("too many installations from your address: try again in a minute"));
    }
    ration.take(address, now);
    Ok(address)
}

/// The script.
pub(super) async fn script(
    Newcomer { shared, caller }: Newcomer,
    reached: Reached,
) -> Result<Response, ApiError> {
    check_rate(&shared, &caller)?;
    let (directory, known) = (shared.installer.directory.clone(), Arc::clone(&shared.installer.known));
    let (agents, release_key) =
        shared.pool.run(move || Ok((Agents::look(&directory, &known), release_key(&directory)))).await?;
    let (mut cases, mut machines) = (String::new(), Vec::new());
    for (Agent { machine, sha256, .. }, _) in agents {
        let _ = writeln!(cases, "\t{machine}) sha256={sha256} ;;");
        machines.push(machine);
    }
    let port = shared.network.lock().unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
    let host = host(&shared, reached, port);
    let text = include_str!("install.sh")
        .replace("@AGENTS@", &cases)
        .replace(
            "@MACHINES@",
            if machines.is_empty() { "none".to_owned() } else { machines.join(", ") }.as_str(),
        )
        .replace("@SERVER@", &devices_address(&host, shared.context.info.device_port))
        .replace("@HOST@", &host)
        .replace("@PINS@", &pins(&shared))
        .replace("@RELEASE_KEY@", &release_key);
    Ok(([(CONTENT_TYPE, SCRIPT), (CACHE_CONTROL, "no-store")], text).into_response())
}

/// The key that new devices are to trust for releases: the second line of `minisign.pub` beside the agents;
/// empty when there is none.
fn release_key(directory: &std::path::Path) -> String {
    let text = std::fs::read(directory.join("minisign.pub")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let key = text.lines().nth(1).map(str::trim).unwrap_or_default();
    // It goes into a script.
    let is_base64 = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    if key.len() == 56 && is_base64 { key.to_owned() } else { String::new() }
}

/// The address at which devices connect, by the host of the administrators' port.
fn devices_address(host: &str, port: u16) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, digits)) if digits.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    format!("{name}:{port}")
}

/// An agent by the SHA-256 of its content, which no other content ever has.
pub(super) async fn agent(
    Newcomer { shared, caller }: Newcomer,
    Path(sha256): Path<String>,
) -> Result<Response, ApiError> {
    let address = check_rate(&shared, &caller)?;
    let place = shared.installer.place(address)?;
    let (directory, known) = (shared.installer.directory.clone(), Arc::clone(&shared.installer.known));
    let find = move || {
        let found = Agents::look(&directory, &known);
        Ok(found.into_iter().find(|(agent, _)| agent.sha256.to_string() == sha256))
    };
    let (Agent { stamp, .. }, file) = shared.pool.run(find).await?.ok_or_else(|| {
        let text = "no agent here has this SHA-256: GET /install names those that are here";
        ApiError::new(ErrorCode::NotFound, text)
    })?;
    let length = stamp.bytes();
    let (pieces, body) = lines::body();
    let (shared, file) = (Arc::clone(&shared), Arc::new(file));
    tokio::spawn(async move {
        let _place = place;
        let mut at = 0;
        while at < length {
            let file = Arc::clone(&file);
            let read = move || {
                read_piece(&file, at, PIECE_BYTES)
                    .map_err(|error| ApiError::internal(format!("an agent: {error}")))
            };
            // A client that hears less than it was promised asks again.
            let Ok(piece) = shared.pool.run(read).await else { return };
            at += piece.len() as u64;
            if piece.is_empty() || pieces.send(Bytes::from(piece)).await.is_err() {
                return;
            }
        }
    });
    let headers = [
        (CONTENT_TYPE, PROGRAM.to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
    ];
    Ok((headers, body).into_response())
}
