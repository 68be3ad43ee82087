//! The administration API as values: what `admin` answers, what `client` asks, what `musterctl --json`
//! prints.
//!
//! HTTP/1.1 with JSON bodies, paths under `/v1`:
//!
//! | method and path | asks with | answers with |
//! |---|---|---|
//! | `GET /metrics` | | the same numbers, and more, as text for Prometheus ([`metrics`](crate::manual::metrics)) |
//! | `GET /v1/openapi.json` | | all this, as OpenAPI 3.1 |
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/api-tokens` | [`NewApiToken`] | [`CreatedApiToken`] |
//! | `GET /v1/api-tokens` | [`PageQuery`] | [`Page`] of [`ApiToken`] |
//! | `DELETE /v1/api-tokens/{id}` | | [`ApiToken`] |
//! | `POST /v1/users` | [`NewUser`] | [`UserLink`] |
//! | `GET /v1/users` | [`PageQuery`] | [`Page`] of [`User`] |
//! | `PATCH /v1/users/{name}` | [`UserChange`] | [`User`] |
//! | `DELETE /v1/users/{name}` | | [`User`] |
//! | `POST /v1/users/{name}/link` | | [`UserLink`]: the password, the sessions and the API tokens of the user end |
//! | `POST /v1/sessions` | [`SignIn`] | [`Session`], and the cookie `__Host-muster` |
//! | `POST /v1/sessions/api-token` | [`SignIn`] | [`CreatedApiToken`] with the user's rights |
//! | `POST /v1/sessions/openid` | [`OpenIdAnswer`] | [`Session`], with its cookie; for the console's page to which a provider sends browsers |
//! | `GET /v1/session` | | [`Session`] |
//! | `DELETE /v1/session` | | [`Session`], which is over |
//! | `GET /v1/audit` | [`AuditQuery`] | [`Page`] of [`AuditRecord`], newest first |
//! | `GET /v1/audit/verify` | | [`AuditCheck`] |
//! | `GET /v1/backup` | | a tar file, as it is made; its last part is `SHA256SUMS` when it is whole |
//! | `GET /v1/certificate` | | [`CertificateStatus`] |
//! | `POST /v1/certificate` | [`CertificateChange`] | [`CertificateStatus`] |
//! | `POST /v1/recovery-key` | | [`RecoveryKey`] |
//! | `GET /install` | | the script that installs the agent; without signing in, as the next one |
//! | `GET /install/agent/{sha256}` | | an agent, by the SHA-256 of its content |
//! | `POST /v1/tokens` | [`NewToken`] | [`CreatedToken`] |
//! | `GET /v1/tokens` | [`PageQuery`] | [`Page`] of [`Token`] |
//! | `DELETE /v1/tokens/{id}` | | [`Token`] |
//! | `GET /v1/devices` | [`DeviceQuery`] | [`Page`] of [`Device`] |
//! | `GET /v1/devices.csv` | [`DeviceQuery`] without page | text/csv, with a head; one that breaks off is not whole |
//! | `GET /v1/devices/{name or id}` | | [`DeviceDetail`] |
//! | `PATCH /v1/devices/{name or id}` | [`DeviceChange`] | [`Device`] |
//! | `DELETE /v1/devices/{name or id}` | | [`Device`] |
//! | `POST /v1/devices/{name or id}/approve` | [`Approval`] | [`Device`] |
//! | `POST /v1/devices/{name or id}/re-enrol` | [`ReEnrolment`] | [`CreatedToken`] |
//! | `GET /v1/devices/{name or id}/why` | | [`Why`] |
//! | `POST /v1/device-changes` | [`SelectionChange`] | [`Selected`] |
//! | `POST /v1/device-approvals` | [`SelectionApproval`] | [`Selected`] |
//! | `POST /v1/device-removals` | [`SelectionRemoval`] | [`Selected`] |
//! | `GET /v1/facets` | [`FacetQuery`] | [`Facets`] |
//! | `GET /v1/tags` | | list of [`Tag`], by name |
//! | `POST /v1/tags/{tag}` | [`TagChange`] | [`Selected`]: for how many that changed something |
//! | `PATCH /v1/tags/{tag}` | [`TagRule`] | [`Selected`]: how many have it by the rule now |
//! | `DELETE /v1/tags/{tag}` | | [`Tag`] |
//! | `GET /v1/views` | | list of [`View`], by name |
//! | `POST /v1/views` | [`View`] | [`View`] |
//! | `DELETE /v1/views/{view}` | | [`View`] |
//! | `POST /v1/syncs` | [`CallRequest`] | one [`CallLine`] a line |
//! | `GET /v1/applications` | [`ApplicationQuery`] | [`Page`] of [`InstalledApplication`] |
//! | `GET /v1/installations` | [`ApplicationQuery`] | [`Page`] of [`Installation`]: which devices |
//! | `GET /v1/events` | [`EventQuery`] | [`Page`] of [`EventRecord`], newest first |
//! | `GET /v1/events/follow` | [`FollowQuery`] | one [`FollowLine`] a line, without end |
//! | `POST /v1/groups` | [`NewGroup`] | [`NewGroup`], its path as it is kept |
//! | `GET /v1/groups` | [`PageQuery`] | [`Page`] of [`Group`] |
//! | `POST /v1/groups/move` | [`GroupMove`] | [`SettingsChanged`] |
//! | `POST /v1/groups/remove` | [`GroupRemoval`] | [`SettingsChanged`] |
//! | `POST /v1/policies`, `POST /v1/settings` | [`NewPolicy`] | [`SettingsChanged`] |
//! | `GET /v1/policies` | [`PolicyQuery`] | [`Page`] of [`Policy`] |
//! | `GET /v1/policies/history` | [`PolicyHistoryQuery`] | [`Page`] of [`PolicyVersion`], newest first |
//! | `POST /v1/policies/remove`, `POST /v1/settings/remove` | [`PolicyRemoval`] | [`SettingsChanged`] |
//! | `GET /v1/devices/{name or id}/settings` | | list of [`ApplicationSettings`] |
//! | `GET /v1/devices/{name or id}/settings/explain` | [`ExplainQuery`] | list of [`ExplainedKey`] |
//! | `POST /v1/tasks` | [`NewTask`] | [`CreatedTask`] |
//! | `GET /v1/tasks` | [`TaskQuery`] | [`Page`] of [`Task`], newest first |
//! | `GET /v1/tasks/{id}` | | [`TaskDetail`] |
//! | `POST /v1/tasks/{id}/cancel` | | [`Task`] |
//! | `POST /v1/artifacts` | [`NewArtifact`] as its query, the content as its body | [`StoredArtifact`] |
//! | `GET /v1/artifacts` | [`PageQuery`] | [`Page`] of [`StoredArtifact`], newest first |
//! | `DELETE /v1/artifacts/{hash}` | | [`StoredArtifact`] |
//! | `GET /v1/runs` | [`RunQuery`] | [`Page`] of [`TaskRun`], those that were due last first |
//! | `GET /v1/runs/{id}` | | [`RunDetail`] |
//!
//! Those who ask over the network say who they are with `Authorization: Bearer` and an API token, or with the
//! cookie of a session; `/v1/sessions` alone is for those who do not yet. A request with the cookie that
//! changes something must say that a page of this server makes it: `Sec-Fetch-Site: same-origin`, or an
//! `Origin` that is the `Host`.
//!
//! Every answer that is no success is an [`ErrorBody`]. A list is a [`Page`] with an opaque cursor to the
//! next one.

mod api_token;
mod application;
mod artifact;
mod audit;
mod call;
mod certificate;
mod device;
pub(crate) mod device_table;
mod event;
mod group;
mod keep;
mod policy;
pub(crate) mod quantity;
#[cfg(feature = "server")]
mod schema;
mod status;
mod tag;
mod task;
mod timestamp;
mod token;
#[cfg(any(feature = "client", feature = "console", test))]
pub(crate) mod url;
mod user;
mod why;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::wire::digest::Digest;
pub use crate::wire::event::Severity;
pub use crate::wire::id::{ApiTokenId, ArtifactHash, DeviceId, Epoch, RunId, TaskId, TokenId, UserId};
pub use crate::wire::named::ParseError;
pub use crate::wire::presence::Presence;
pub use crate::wire::role::Role;
pub use crate::wire::section::{ApplicationCondition, Condition, HostFacts};
pub use crate::wire::settings::{Drift, SettingsReport, SettingsState};
pub use crate::wire::statistics::Number;
pub use crate::wire::time::WallTime;
pub use api_token::{
    API_TOKEN_TTL_SECONDS_DEFAULT, API_TOKEN_TTL_SECONDS_MAX, ApiToken, ApiTokenState, CreatedApiToken,
    NewApiToken,
};
pub use application::{ApplicationQuery, Installation, InstalledApplication};
pub use artifact::{NewArtifact, StoredArtifact};
pub use audit::{AuditCheck, AuditQuery, AuditRecord};
pub use call::{
    CALL_SECONDS_DEFAULT, CALL_SECONDS_MAX, CallLine, CallOutcome, CallRequest, CallVia, CalledDevice,
};
pub use certificate::{
    CertificateChange, CertificateStage, CertificateStatus, CertificateStep, MISSING_NAMES_MAX,
    READY_PERCENT_DEFAULT, RecoveryKey,
};
pub use device::{
    Certificate, ConditionStatus, Device, DeviceChange, DeviceColumn, DeviceDetail, DeviceQuery, DeviceSort,
    Interval, Link, PersistentBy, SectionStatus, SettingsStatus, Spool, StatisticSeries, StatusReason,
    UdpReach,
};
pub use event::{
    CLAIMED_PREFIX, DeletedEvents, EventQuery, EventRecord, EventSource, FOLLOW_NEWEST_MAX, FollowLine,
    FollowQuery,
};
pub use group::{Group, GroupInForce, NewGroup};
pub use keep::Keep;
pub use policy::{
    ApplicationSettings, CHANGED_NAMES_MAX, ChangedDevice, ChangedKey, ExplainQuery, ExplainedKey, GroupMove,
    GroupRemoval, LevelValue, NewPolicy, OwnSettings, Policy, PolicyHistoryQuery, PolicyQuery, PolicyRemoval,
    PolicyVersion, SettingsChanged,
};
pub use status::{
    BackupStatus, ClockCondition, ClockStatus, CloseCount, DatagramTotals, DeviceCounts, EventTotals,
    JournalCondition, JournalDamage, JournalStatus, Limit, LinkTotals, LogStatus, Status, StoreCondition,
    StoreStatus, WarningsStatus,
};
pub use tag::{
    FACET_VALUES_MAX, FacetQuery, FacetValue, Facets, LABEL_BYTES_MAX, Selected, SelectionApproval,
    SelectionChange, SelectionRemoval, Tag, TagChange, TagRule, View,
};
pub use task::{
    CreatedTask, LateReport, NewTask, RunCount, RunDetail, RunQuery, RunState, TASK_EXPIRES_SECONDS_DEFAULT,
    TASK_TIMEOUT_SECONDS_DEFAULT, Task, TaskDefinition, TaskDetail, TaskQuery, TaskRun, TaskState,
    TaskTargets, WrittenOutput,
};
pub use timestamp::Timestamp;
pub use token::{
    Approval, CreatedToken, NewToken, RE_ENROLMENT_TTL_SECONDS_DEFAULT, ReEnrolment,
    TOKEN_TTL_SECONDS_DEFAULT, TOKEN_TTL_SECONDS_MAX, TOKEN_USES_MAX, Token, TokenState,
};
pub use user::{
    NewUser, OpenIdAnswer, PASSWORD_BYTES_MAX, PASSWORD_CHARACTERS_MIN, Session, SignIn, User, UserChange,
    UserLink,
};
pub use why::{UnsettledSettings, Waiting, Why, WhyFacts};

/// Most items of one page. Keeps an answer below about a megabyte, and a query on the store short.
pub const PAGE_ITEMS_MAX: u32 = 1_000;

/// Items of a page when the query names no limit.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;

/// Longest request body. The longest request names a device, a group and a few settings.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest cursor. A cursor holds at most a group's path of sixteen names, and another name, in base64;
/// quotes and backslashes twice.
pub const CURSOR_BYTES_MAX: usize = 12 * 1_024;

const _: () = assert!(PAGE_ITEMS_DEFAULT <= PAGE_ITEMS_MAX);
const _: () = assert!(CURSOR_BYTES_MAX > (17 * super::limits::NAME_BYTES_MAX + 64) * 2 * 4 / 3);

/// One page of a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items, at most as many as the query's limit. May be fewer, even none, with more pages to come.
    pub items: Vec<T>,
    /// Begin of the next page; hand it back as it is. Null: this was the last page.
    pub next_cursor: Option<String>,
    /// Events that would be in a list that has come this far, and were deleted. Left out when all is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DeletedEvents>,
}

impl<T> Page<T> {
    /// A page of a list that is whole.
    #[must_use]
    pub fn new(items: Vec<T>, next_cursor: Option<String>) -> Self {
        Self { items, next_cursor, deleted: None }
    }

    /// The same page of what `each` makes of its items.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        let Self { items, next_cursor, deleted } = self;
        Page { items: items.into_iter().map(each).collect(), next_cursor, deleted }
    }
}

/// Asks for a page.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PageQuery {
    /// Most items, 1 to [`PAGE_ITEMS_MAX`]; left out: [`PAGE_ITEMS_DEFAULT`].
    pub limit: Option<u32>,
    /// The last page's `next_cursor`; left out: the first page.
    pub cursor: Option<String>,
}

/// The body of every answer that is no success.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// An error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ErrorDetail {
    /// For programs.
    pub code: ErrorCode,
    /// For people, in one line: what was wrong and what to do.
    pub message: String,
    /// Of an error in a filter: the number of characters before it. Left out of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<usize>,
}

/// Why a request was not fulfilled: for programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// 400: the request can't be understood, or a value in it is not allowed.
    InvalidArgument,
    /// 401: the server does not know who asks.
    Unauthenticated,
    /// 403: those who ask may not do that, or not there.
    Forbidden,
    /// 404: no such path, device, token or group.
    NotFound,
    /// 405: the path exists, the method doesn't.
    MethodNotAllowed,
    /// 409: it contradicts what is there, such as a name that is taken.
    Conflict,
    /// 413: the body is longer than [`REQUEST_BODY_BYTES_MAX`].
    TooLarge,
    /// 503: the server has too much to do, or stops; try again.
    Busy,
    /// 500: something failed at the server; its log has the reason.
    Internal,
    /// A code that this version doesn't know.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The HTTP status (RFC 9110 section 15) that travels with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Busy => 503,
            Self::Internal | Self::Unknown => 500,
        }
    }
}

impl std::error::Error for ErrorDetail {}

impl fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod tests;
