//! Artifacts: files that the server keeps for tasks, and that travel to devices in parts.
//!
//! An artifact is known by its content's hash alone, so that a download goes on where it ended, on another
//! link or after a restart, and what came can be judged whole.

use minicbor::{Decode, Decoder, Encode};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::id::ArtifactHash;
use super::limits::{ARTIFACT_BYTES_MAX, ARTIFACT_PART_BYTES_MAX, SIGNATURE_BYTES_MAX};
use super::named::named;

named! {
    /// Whether runs of a kind of task come with an artifact.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[cbor(index_only)]
    #[serde(rename_all = "lowercase")]
    ArtifactUse {
        /// They have none.
        #[default]
        #[n(0)]
        None = "none",
        /// They need one; its hash is all that is judged.
        #[n(1)]
        Any = "any",
        /// They need one that the key signed which the device trusts for releases.
        #[n(2)]
        Signed = "signed",
    }
}

impl ArtifactUse {
    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// The artifact of a run.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Artifact {
    /// Its hash.
    #[n(0)]
    pub hash: ArtifactHash,
    /// Its length.
    #[cbor(n(1), decode_with = "length")]
    pub bytes: u64,
    /// The name of the file that it was made from: for people, never a path.
    #[cbor(n(2), decode_with = "bounded::name")]
    pub name: String,
    /// Its signature: the text of minisign's `.minisig` file; left out when it has none.
    #[cbor(n(3), decode_with = "bounded::optional_text::<Ctx, SIGNATURE_BYTES_MAX>")]
    pub signature: Option<String>,
}

fn length<Ctx>(decoder: &mut Decoder<'_>, _: &mut Ctx) -> Result<u64, minicbor::decode::Error> {
    match decoder.u64()? {
        bytes @ ..=ARTIFACT_BYTES_MAX => Ok(bytes),
        bytes => Err(minicbor::decode::Error::message(format!(
            "an artifact of {bytes} bytes, at most {ARTIFACT_BYTES_MAX} are allowed"
        ))),
    }
}

/// The device asks for a part of an artifact that a run of its needs. One is under way at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Fetch {
    /// Which artifact.
    #[n(0)]
    pub hash: ArtifactHash,
    /// From which byte on.
    #[n(1)]
    pub offset: u64,
}

/// Answer to a [`Fetch`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ArtifactPart {
    /// Which artifact.
    #[n(0)]
    pub hash: ArtifactHash,
    /// From which byte on.
    #[n(1)]
    pub offset: u64,
    /// The bytes; none when there are no more, or with one of the two below.
    #[cbor(
        n(2),
        encode_with = "minicbor::bytes::encode",
        decode_with = "bounded::bytes::<Ctx, ARTIFACT_PART_BYTES_MAX>"
    )]
    pub bytes: Vec<u8>,
    /// Not now: seconds after which to ask again.
    #[n(3)]
    pub again_seconds: Option<u32>,
    /// Never: no run of the device needs it, or the server does not have it.
    #[cbor(n(4), decode_with = "bounded::optional_text::<Ctx, 4096>")]
    pub refusal: Option<String>,
}

impl ArtifactPart {
    /// The answer to ask again later.
    #[must_use]
    pub fn again(Fetch { hash, offset }: Fetch, seconds: u32) -> Self {
        Self { hash, offset, bytes: Vec::new(), again_seconds: Some(seconds), refusal: None }
    }
}
