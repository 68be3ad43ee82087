//! Artifacts: files that tasks come with.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::wire::id::ArtifactHash;

/// Adds an artifact, whose content is the request's body.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewArtifact {
    /// The name of the file that it was made from, without its directory.
    pub name: String,
    /// SHA-256 of the content: when it is another, nothing is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<ArtifactHash>,
    /// Its signature: the text of minisign's `.minisig` file. Left out: that of a content which is there
    /// stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// An artifact that the server keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct StoredArtifact {
    /// SHA-256 of its content, by which it is named everywhere.
    pub hash: ArtifactHash,
    /// Its length.
    pub bytes: u64,
    /// The name of the file that it was made from; for people.
    pub name: String,
    /// Its signature: the text of minisign's `.minisig` file; null: it has none.
    pub signature: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// The one who added it, as the audit names them.
    pub created_by: String,
    /// Number of active tasks that need it: it can't be removed.
    pub tasks: u64,
    /// Why devices can't have it; null: they can.
    pub fault: Option<String>,
}
