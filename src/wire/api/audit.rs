//! The audit: changes that were made or refused.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Asks for rows of the audit, newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AuditQuery {
    /// Only those from this time on.
    pub since: Option<Timestamp>,
    /// Most items of the page.
    pub limit: Option<u32>,
    /// Begin of the page.
    pub cursor: Option<String>,
}

/// One change, made or refused.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Counts rows, without gaps.
    pub number: u64,
    /// When it was asked.
    pub at: Timestamp,
    /// The one who asked: `uid 0` is root at the socket.
    pub actor: String,
    /// Their address, or `unix`.
    pub origin: String,
    /// Method and route, such as `PATCH /v1/devices/{device}`.
    pub action: String,
    /// The path that was asked for.
    pub target: String,
    /// The thing before the change; null: there was none, or nothing that can be shown. A long one is cut,
    /// and is a text then.
    pub before: Option<serde_json::Value>,
    /// The request, without secrets; the same.
    pub after: Option<serde_json::Value>,
    /// `done`, or the refusal: its code and its text.
    pub outcome: String,
}

/// Outcome of following the chain of rows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct AuditCheck {
    /// Number of rows that are as they were written.
    pub rows: u64,
    /// Number of the first row that is kept; those before it were deleted by age or number.
    pub first: u64,
    /// Number of the last row that was written.
    pub head: u64,
    /// Its hash, hexadecimal: as in the hourly event `audit_head`.
    pub head_sha256: String,
    /// The place where the chain breaks, in words; null: it is whole.
    pub fault: Option<String>,
}
