//! `musterctl login` and `logout`: API tokens, kept in the user's configuration directory for each server.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::Failure;
use super::output::{Output, plain};
use crate::client::{Address, Client};
use crate::wire::api::SignIn;
use crate::wire::id::CertificateHash;
use crate::wire::token::{ApiTokenText, LinkText, TokenError};

/// The environment variable that has an API token to ask with.
pub(super) const API_TOKEN_VARIABLE: &str = "MUSTER_API_TOKEN";

/// Most of a file or of standard input that is read for a token.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Path of the kept tokens: `$XDG_CONFIG_HOME/muster/tokens.json` (XDG Base Directory Specification).
fn kept_in() -> Result<PathBuf, Failure> {
    let of = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = of("XDG_CONFIG_HOME").or_else(|| of("HOME").map(|home| home.join(".config")));
    let base = base.ok_or_else(|| {
        Failure::Usage(format!(
            "neither XDG_CONFIG_HOME nor HOME says where to keep tokens: use {API_TOKEN_VARIABLE}"
        ))
    })?;
    Ok(base.join("muster/tokens.json"))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::NotReached(format!("the file of API tokens {} can't be used: {why}", path.display()))
}

/// The tokens by address.
fn read(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut text = Vec::new();
    match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(unusable(path, &error)),
        Ok(file) => {
            file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| unusable(path, &error))?
        }
    };
    serde_json::from_slice(&text).map_err(|error| unusable(path, &error))
}

/// Under another name first: no moment has half a file, or one that others may read.
fn write(path: &Path, tokens: &BTreeMap<String, String>) -> Result<(), Failure> {
    let done = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let new = path.with_extension("new");
        // Left behind by one that was killed: with another mode, perhaps.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(tokens)?)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    done().map_err(|error| unusable(path, &error))
}

/// The API token to ask this server with: that of the environment, or the one that was kept.
pub(super) fn token_for(server: &Address) -> Result<Option<ApiTokenText>, Failure> {
    let text = match std::env::var(API_TOKEN_VARIABLE) {
        Ok(text) if !text.is_empty() => Some(text),
        _ => match server {
            Address::Socket(_) => None,
            Address::Network(_) => read(&kept_in()?)?.remove(&server.to_string()),
        },
    };
    let Some(text) = text else { return Ok(None) };
    text.parse().map(Some).map_err(|error| Failure::Usage(format!("the API token for {server}: {error}")))
}

/// Options of signing in.
#[derive(Args, Debug)]
pub(super) struct LoginArguments {
    /// The server, https://HOST:PORT; as --server
    address: Option<Address>,
    /// Sign in with this user's password
    #[arg(long, value_name = "NAME", conflicts_with_all = ["token_file", "link_file"])]
    user: Option<String>,
    /// File with a one-time link, with which a new password is set; - asks for it
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    link_file: Option<String>,
    /// File with the password; - asks for it
    #[arg(long, value_name = "FILE", default_value = "-")]
    password_file: String,
    /// The server's certificate, as 'musterctl status' has it on the server: for the first time with --user
    #[arg(long, value_name = "SHA256", requires = "user")]
    certificate: Option<CertificateHash>,
    /// File with an API token; - asks for it
    #[arg(long, value_name = "FILE", default_value = "-")]
    token_file: String,
}

/// A secret from a file, or from somebody who is asked for it.
fn secret(file: &str, what: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    if file == "-" {
        // A prompt is for people, and no part of the answer.
        let _ = write!(io::stderr(), "{what}: ");
        *text = line_unseen()?;
    } else {
        let read = fs::File::open(file).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        read.map_err(|error| Failure::NotReached(format!("{file} can't be read: {error}")))?;
    }
    Ok(text)
}

/// A line of standard input, which a terminal does not show.
fn line_unseen() -> io::Result<String> {
    let stdin = io::stdin();
    let before = if stdin.is_terminal() { Some(tcgetattr(&stdin)?) } else { None };
    if let Some(before) = &before {
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &unseen)?;
    }
    let line = io::stdin().lines().next().transpose();
    if let Some(before) = before {
        tcsetattr(&stdin, OptionalActions::Now, &before)?;
        let _ = writeln!(io::stderr());
    }
    Ok(line?.unwrap_or_default())
}

/// A password, as it was written: without the end of its line.
fn password(file: &str, what: &str) -> Result<String, Failure> {
    let text = secret(file, what)?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// Signs in: the token is kept once the server has taken it.
pub(super) fn login(server: Address, output: &mut Output, asked: &LoginArguments) -> Result<(), Failure> {
    let mut server = asked.address.clone().unwrap_or(server);
    let link = asked.link_file.as_ref().map(|file| secret(file, "one-time link")).transpose()?;
    if let Some((address, _)) = link.as_ref().and_then(|link| link.trim().split_once("/welcome#"))
        && matches!(server, Address::Socket(_))
    {
        server = address.parse().map_err(|error| Failure::Usage(format!("the one-time link: {error}")))?;
    }
    if matches!(server, Address::Socket(_)) {
        return Err(Failure::Usage(
            "at the socket nobody signs in: name the server with https://HOST:13001".to_owned(),
        ));
    }
    let (path, mut client) = (kept_in()?, Client::new(server.clone())?);
    let mut tokens = read(&path)?;
    let unusable = |error: TokenError| Failure::Usage(error.to_string());
    let proof = match (&asked.user, &link) {
        (Some(user), _) => {
            let kept = tokens.get(&server.to_string()).and_then(|text| text.parse::<ApiTokenText>().ok());
            let expected = asked.certificate.or(kept.map(|token| token.server_certificate));
            client.expect(expected.ok_or_else(|| {
                Failure::Usage(format!(
                    "nothing is known of {server} yet: give --certificate, which 'musterctl status' says on the server"
                ))
            })?);
            let password = password(&asked.password_file, &format!("password of {user}"))?;
            Some(SignIn { user: Some(user.clone()), link: None, password })
        }
        (None, Some(link)) => {
            client.expect(LinkText::of_link(link.trim()).map_err(unusable)?.server_certificate);
            let chosen = password(&asked.password_file, "new password")?;
            if asked.password_file == "-"
                && io::stdin().is_terminal()
                && password("-", "once more")? != chosen
            {
                return Err(Failure::NotReached("the two are different: nothing was set".to_owned()));
            }
            Some(SignIn { user: None, link: Some(link.trim().to_owned()), password: chosen })
        }
        (None, None) => None,
    };
    let token = match proof {
        Some(proof) => client.create_token_of_user(&proof)?.token,
        None => secret(&asked.token_file, &format!("API token for {server}"))?.trim().to_owned(),
    };
    client.sign_in(&token.parse().map_err(unusable)?);
    let session = client.session()?;
    tokens.insert(server.to_string(), token);
    write(&path, &tokens)?;
    output.answer(&server.to_string(), |server| {
        let (role, group) = (session.role, &session.group);
        format!("signed in at {server}, {role} on {group}; the API token is kept in {}", path.display())
    })
}

/// When the server has another certificate than the token names, for which that vouches, as during a rotation
/// of its key: what is kept names the new one from now on, so that it stays good when the old one is retired.
pub(super) fn follow(client: &mut Client, token: &ApiTokenText) {
    if let Err(failure) = try_to_follow(client, token) {
        let text = format!(
            "the server's new certificate is not kept, so the token ends with the old one: {failure}"
        );
        let _ = writeln!(io::stderr(), "musterctl: {}", plain(&text));
    }
}

fn try_to_follow(client: &mut Client, token: &ApiTokenText) -> Result<(), Failure> {
    if !client.connection.is_vouched_for() {
        return Ok(());
    }
    let certificate = client.session()?.certificate_sha256.parse();
    let certificate = certificate.map_err(|error| Failure::NotReached(format!("{error}")))?;
    let (path, server) = (kept_in()?, client.connection.address().to_string());
    let mut tokens = read(&path)?;
    // One that stays the same has [tls] files shown in front of it; another token is of the environment.
    if certificate == token.server_certificate || tokens.get(&server) != Some(&token.to_string()) {
        return Ok(());
    }
    let mut followed = token.clone();
    followed.server_certificate = certificate;
    tokens.insert(server, followed.to_string());
    write(&path, &tokens)
}

/// Forgets the token of a server. It stays good until it is revoked.
pub(super) fn logout(server: &Address, output: &mut Output) -> Result<(), Failure> {
    let path = kept_in()?;
    let mut tokens = read(&path)?;
    if tokens.remove(&server.to_string()).is_none() {
        return Err(Failure::NotReached(format!("nobody is signed in at {server}")));
    }
    write(&path, &tokens)?;
    output.answer(&server.to_string(), |server| {
        format!("the token for {server} is forgotten; 'musterctl api-token revoke' makes it worthless")
    })
}
