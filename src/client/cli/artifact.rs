//! `musterctl artifact`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use clap::Subcommand;

use super::Failure;
use super::output::{NOTHING_THERE, Output, plain, time};
use crate::client::Client;
use crate::wire::api::{NewArtifact, StoredArtifact};
use crate::wire::id::ArtifactHash;
use crate::wire::limits::{ARTIFACT_BYTES_MAX, SIGNATURE_BYTES_MAX};
use crate::wire::units::{count, format_size};

/// End of the name of the file that minisign puts a file's signature into.
const SIGNATURE_SUFFIX: &str = ".minisig";

/// Bytes that are hashed at a time.
const PIECE_BYTES: usize = 256 * 1024;

#[derive(Subcommand, Debug)]
pub(super) enum ArtifactCommand {
    /// Give the server a file for tasks, and print the SHA-256 by which it is known
    #[command(after_help = "Examples:
  musterctl artifact add firmware-2.1.bin
  musterctl artifact add muster-agent-x86_64 --signature muster-agent-x86_64.minisig
  musterctl task create --application kiosk --kind flash --group /shops --rate 20 --artifact firmware-2.1.bin

A content that is there already is added no second time; a signature that is given then counts from now on.")]
    Add {
        /// The file
        file: PathBuf,
        /// A file with its signature, as minisign makes it [default: FILE.minisig when it is there]
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
    },
    /// All artifacts, the newest first
    #[command(after_help = "Examples:
  musterctl artifact list
  musterctl artifact list --json | jq -r '.[] | select(.tasks == 0) | .hash'")]
    List,
    /// Remove an artifact that no active task needs
    #[command(after_help = "Examples:
  musterctl artifact remove 4bc453b53cb3d914b45f4b250294236adba2c0e09ff6f03793949e7e39fd4cc1")]
    Remove {
        /// The SHA-256 of its content, from 'musterctl artifact list'
        hash: ArtifactHash,
    },
}

pub(super) fn run(client: &mut Client, output: &mut Output, command: ArtifactCommand) -> Result<(), Failure> {
    match command {
        ArtifactCommand::Add { file, signature } => {
            let added = add(client, &file, signature.as_deref())?;
            output.answer(&added, |added| added.hash.to_string())
        }
        ArtifactCommand::List => {
            let heads = ["SHA-256", "NAME", "SIZE", "SIGNED", "TASKS", "ADDED", "BY", "FAULT"];
            output.list(&heads, client.artifacts(), "no artifacts", row)
        }
        ArtifactCommand::Remove { hash } => output.answer(&client.remove_artifact(hash)?, |removed| {
            format!("artifact {} ({}) is removed", removed.hash, plain(&removed.name))
        }),
    }
}

fn row(artifact: &StoredArtifact) -> Vec<String> {
    vec![
        artifact.hash.to_string(),
        artifact.name.clone(),
        format_size(artifact.bytes),
        if artifact.signature.is_some() { "yes" } else { "no" }.to_owned(),
        artifact.tasks.to_string(),
        time(artifact.created_at),
        artifact.created_by.clone(),
        artifact.fault.clone().unwrap_or_else(|| NOTHING_THERE.into()),
    ]
}

/// Gives the server a file, with the signature that is named, or lies beside it.
pub(super) fn add(
    client: &mut Client,
    path: &Path,
    signature: Option<&Path>,
) -> Result<StoredArtifact, Failure> {
    let wrong = |error: io::Error| Failure::Usage(format!("{}: {error}", path.display()));
    let mut beside = OsString::from(path);
    beside.push(SIGNATURE_SUFFIX);
    let beside = PathBuf::from(beside);
    let signature = signature.or_else(|| beside.exists().then_some(beside.as_path())).map(read_signature);
    let mut file = File::open(path).map_err(wrong)?;
    let (sha256, bytes) = hash(&mut file).map_err(wrong)?;
    file.rewind().map_err(wrong)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let new = NewArtifact { name, sha256: Some(sha256), signature: signature.transpose()? };
    Ok(client.add_artifact(&new, file, bytes)?)
}

/// The artifact that a text means: by its hash, or a file that the server is given first.
pub(super) fn meant(client: &mut Client, text: &str) -> Result<ArtifactHash, Failure> {
    match text.parse::<ArtifactHash>() {
        Ok(hash) => Ok(hash),
        Err(_) => Ok(add(client, Path::new(text), None)?.hash),
    }
}

fn read_signature(path: &Path) -> Result<String, Failure> {
    let wrong = |error: String| Failure::Usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(SIGNATURE_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| wrong(error.to_string()))?;
    if text.trim().is_empty() || text.len() > SIGNATURE_BYTES_MAX {
        return Err(wrong(format!(
            "a signature has 1 to {SIGNATURE_BYTES_MAX} bytes: is it a .minisig file?"
        )));
    }
    Ok(text)
}

fn hash(file: &mut File) -> io::Result<(ArtifactHash, u64)> {
    let (mut hash, mut bytes, mut piece) = (Context::new(&SHA256), 0, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hash.finish().into(), bytes)),
            read => {
                hash.update(&piece[..read]);
                bytes += read as u64;
            }
        }
        if bytes > ARTIFACT_BYTES_MAX {
            let text =
                format!("it has more than {}, which an artifact may have", count(ARTIFACT_BYTES_MAX, "byte"));
            return Err(io::Error::other(text));
        }
    }
}
