//! `musterctl login` and `logout`: API tokens, kept in the user's configuration directory for each server.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Failure;
use super::output::Output;
use crate::client::{Address, Client};
use crate::wire::token::ApiTokenText;

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

/// Signs in: the token is kept once the server has taken it.
pub(super) fn login(server: &Address, output: &mut Output, token_file: &str) -> Result<(), Failure> {
    let Address::Network(_) = server else {
        return Err(Failure::Usage(
            "at the socket nobody signs in: name the server with --server https://HOST:13001".to_owned(),
        ));
    };
    let mut text = String::new();
    if token_file == "-" {
        // A prompt is for people, and no part of the answer.
        let _ = write!(io::stderr(), "API token for {server}: ");
        io::stdin().lines().next().transpose()?.unwrap_or_default().clone_into(&mut text);
    } else {
        let file = fs::File::open(token_file).map_err(|error| unusable(Path::new(token_file), &error))?;
        let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| unusable(Path::new(token_file), &error))?;
    }
    let token: ApiTokenText = text.trim().parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    let mut client = Client::new(server.clone())?;
    client.sign_in(&token);
    // Everybody who may anything may see groups.
    client.groups().next().transpose()?;
    let path = kept_in()?;
    let mut tokens = read(&path)?;
    tokens.insert(server.to_string(), token.to_string());
    write(&path, &tokens)?;
    output.answer(&server.to_string(), |server| {
        format!("signed in at {server}; the token is kept in {}", path.display())
    })
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
