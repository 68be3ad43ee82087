//! Layer 4: what `musterctl`, the demo and tests use to talk to `admin`.
//!
//! [`Client`] asks one thing at a time and waits for the answer: a command line needs no more. Lists come
//! page by page ([`Pages`]), so that neither side ever holds a whole one; [`Follow`] waits for events,
//! [`Sync`] for devices that are called. The values are those of [`wire::api`](crate::wire::api).
//!
//! ```no_run
//! use muster::client::{Address, Client};
//! use muster::wire::api::DeviceQuery;
//!
//! let mut client = Client::new("unix:muster-data/admin.sock".parse::<Address>().unwrap()).unwrap();
//! for page in client.devices(DeviceQuery::default()) {
//!     for device in page.unwrap() {
//!         println!("{} {}", device.name, device.presence);
//!     }
//! }
//! ```
#![forbid(unsafe_code)]

mod address;
mod body;
#[cfg(feature = "ctl")]
pub mod cli;
mod connection;
mod error;
mod pages;
mod streams;

use std::fs::File;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::api::url;
use crate::wire::api::{
    ApiToken, ApplicationQuery, ApplicationSettings, Approval, AuditCheck, AuditQuery, AuditRecord,
    CallRequest, CertificateChange, CertificateStatus, CreatedApiToken, CreatedTask, CreatedToken, Device,
    DeviceChange, DeviceDetail, DeviceQuery, EventQuery, EventRecord, ExplainQuery, ExplainedKey, FacetQuery,
    Facets, FollowQuery, Group, GroupMove, GroupRemoval, Installation, InstalledApplication, NewApiToken,
    NewArtifact, NewGroup, NewPolicy, NewTask, NewToken, NewUser, PageQuery, Policy, PolicyHistoryQuery,
    PolicyQuery, PolicyRemoval, PolicyVersion, ReEnrolment, RecoveryKey, RunDetail, RunQuery, Selected,
    SelectionApproval, SelectionChange, SelectionRemoval, Session, SettingsChanged, SignIn, Status,
    StoredArtifact, Tag, TagChange, TagRule, Task, TaskDetail, TaskQuery, TaskRun, Token, User, UserChange,
    UserLink, View, Why,
};
use crate::wire::id::{ApiTokenId, ArtifactHash, CertificateHash, RunId, TaskId, TokenId};
use crate::wire::token::ApiTokenText;

pub use address::{Address, DEFAULT_SOCKET, SERVER_VARIABLE};
pub use error::ClientError;
pub use pages::{Paged, Pages};
pub use streams::{AnswerPieces, Follow, Sync};

use connection::Connection;

/// Talks to one server's administration API. Connects when it is first asked something, and again when the
/// connection was closed in between.
///
/// Blocks the calling thread; must not be used inside an asynchronous runtime.
#[derive(Debug)]
pub struct Client {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
}

impl Client {
    /// A client of the server at `address`. Connects to nothing yet.
    ///
    /// # Errors
    /// When the process may not open what a runtime needs (an epoll instance, a pair of sockets).
    pub fn new(address: Address) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ClientError::Runtime)?;
        Ok(Self { runtime, connection: Connection::new(address) })
    }

    /// Asks with this API token from now on: what it may not do is refused.
    pub fn sign_in(&mut self, token: &ApiTokenText) {
        self.connection.sign_in(token);
    }

    /// Asks the server over the network that has this certificate, or one that it vouches for, though nobody
    /// has signed in.
    pub fn expect(&mut self, certificate: CertificateHash) {
        self.connection.expect(certificate);
    }

    /// A backup of the server, as it makes it. It holds private keys.
    ///
    /// # Errors
    /// When the server can't be reached, or is making another one (`busy`).
    pub fn backup(&mut self) -> Result<AnswerPieces<'_>, ClientError> {
        AnswerPieces::begin(self, "/v1/backup")
    }

    /// The server's answer at this path of its own, as it comes: a page of the console, or the description of
    /// the API.
    ///
    /// # Errors
    /// When the server can't be reached, or refuses.
    pub fn read(&mut self, path: &str) -> Result<AnswerPieces<'_>, ClientError> {
        AnswerPieces::begin(self, path)
    }

    /// All devices that a query lets through, as CSV: the columns of `musterctl device list`.
    ///
    /// # Errors
    /// When the server can't be reached, or does not understand the query.
    pub fn device_table(&mut self, query: &DeviceQuery) -> Result<AnswerPieces<'_>, ClientError> {
        AnswerPieces::begin(self, &url::with_query("/v1/devices.csv", query))
    }

    /// All join tokens, newest first.
    pub fn tokens(&mut self) -> Pages<'_, PageQuery, Token> {
        Pages::new(self, "/v1/tokens", PageQuery::default())
    }

    /// Has devices sync now. Their outcomes come line by line.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device or group, and
    /// `busy` when too many are called already: then none is called.
    pub fn sync(&mut self, request: &CallRequest) -> Result<Sync<'_>, ClientError> {
        Sync::new(self, request)
    }

    /// Events as they become durable. Goes on by itself when the server restarts.
    pub fn follow(&mut self, query: FollowQuery) -> Follow<'_> {
        Follow::new(self, query)
    }

    /// API tokens that the one who asks may see.
    pub fn api_tokens(&mut self) -> Pages<'_, PageQuery, ApiToken> {
        Pages::new(self, "/v1/api-tokens", PageQuery::default())
    }

    /// Users that the one who asks may see, by name.
    pub fn users(&mut self) -> Pages<'_, PageQuery, User> {
        Pages::new(self, "/v1/users", PageQuery::default())
    }

    /// All groups, by path.
    pub fn groups(&mut self) -> Pages<'_, PageQuery, Group> {
        Pages::new(self, "/v1/groups", PageQuery::default())
    }

    /// Origin of each key of a device's settings; by name or id.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device.
    pub fn explain(&mut self, name_or_id: &str, application: &str) -> Result<Vec<ExplainedKey>, ClientError> {
        let path = format!("{}/settings/explain", url::path("/v1/devices", name_or_id));
        let asked = ExplainQuery { application: application.to_owned() };
        self.ask("GET", &url::with_query(&path, &asked), None::<&()>)
    }

    /// All artifacts, the newest first.
    pub fn artifacts(&mut self) -> Pages<'_, PageQuery, StoredArtifact> {
        Pages::new(self, "/v1/artifacts", PageQuery::default())
    }

    /// Gives the server `bytes` of a file, from where it stands.
    ///
    /// # Errors
    /// When the server can't be reached or refuses, or the file can't be read.
    pub fn add_artifact(
        &mut self,
        new: &NewArtifact,
        file: File,
        bytes: u64,
    ) -> Result<StoredArtifact, ClientError> {
        let path = url::with_query("/v1/artifacts", new);
        self.runtime.block_on(self.connection.upload(&path, file, bytes))
    }

    fn ask<B: Serialize, T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        self.runtime.block_on(self.connection.ask(method, path, body))
    }
}

/// Declares methods that ask one thing: method, path, and body when there is one.
macro_rules! asks {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty = $method:ident $path:expr $(, $body:ident)?;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// When the server can't be reached or refuses.
                pub fn $name(&mut self, $($argument: $type),*) -> Result<$answer, ClientError> {
                    self.ask(stringify!($method), &$path, asks!(@body $($body)?))
                }
            )*
        }
    };
    (@body) => { None::<&()> };
    (@body $body:ident) => { Some($body) };
}

asks! {
    /// The server's certificate, and how far its rotation is.
    fn certificate() -> CertificateStatus = GET "/v1/certificate";

    /// Takes a step of a rotation of the server's certificate.
    /// Refused with `conflict` when that can't be now, or would lose devices.
    fn change_certificate(change: &CertificateChange) -> CertificateStatus = POST "/v1/certificate", change;

    /// Makes a recovery key, which takes the place of one that was there. It is shown this once.
    fn create_recovery_key() -> RecoveryKey = POST "/v1/recovery-key";

    /// Makes an API token. Its secret is in the answer and nowhere else.
    /// Refused with `not_found` when there is no such group.
    fn create_api_token(new: &NewApiToken) -> CreatedApiToken = POST "/v1/api-tokens", new;

    /// Withdraws an API token.
    /// Refused with `not_found` when there is no such token.
    fn revoke_api_token(id: ApiTokenId) -> ApiToken = DELETE format!("/v1/api-tokens/{id}");

    /// Makes a user, with a one-time link. Its secret is in the answer and nowhere else.
    /// Refused with `not_found` when there is no such group, `conflict` when the name is taken or the server
    /// has no port for administrators.
    fn create_user(new: &NewUser) -> UserLink = POST "/v1/users", new;

    /// Gives a user other rights, at once.
    /// Refused with `not_found` when there is no such user or group.
    fn change_user(name: &str, change: &UserChange) -> User = PATCH url::path("/v1/users", name), change;

    /// Removes a user; their sessions and API tokens end.
    /// Refused with `not_found` when there is no such user.
    fn remove_user(name: &str) -> User = DELETE url::path("/v1/users", name);

    /// Makes another one-time link for a user; their password, sessions and API tokens end.
    /// Refused with `not_found` when there is no such user.
    fn renew_user_link(name: &str) -> UserLink = POST format!("{}/link", url::path("/v1/users", name));

    /// Makes an API token with a user's rights, for who knows their password or has a one-time link.
    /// Refused with `unauthenticated` when that is wrong.
    fn create_token_of_user(proof: &SignIn) -> CreatedApiToken = POST "/v1/sessions/api-token", proof;

    /// Says whom the server takes this client for.
    fn session() -> Session = GET "/v1/session";

    /// Follows the chain of the audit's rows.
    fn verify_audit() -> AuditCheck = GET "/v1/audit/verify";

    /// The server at a glance.
    fn status() -> Status = GET "/v1/status";

    /// Makes a join token. Its secret is in the answer and nowhere else.
    fn create_token(new: &NewToken) -> CreatedToken = POST "/v1/tokens", new;

    /// Withdraws a join token. Devices that enrolled with it stay.
    /// Refused with `not_found` when there is no such token.
    fn revoke_token(id: TokenId) -> Token = DELETE format!("/v1/tokens/{id}");

    /// One device, whole; by name or id.
    /// Refused with `not_found` when there is no such device.
    fn device(name_or_id: &str) -> DeviceDetail = GET url::path("/v1/devices", name_or_id);

    /// Why a device is in sync or not, and when it will be; by name or id.
    /// Refused with `not_found` when there is no such device.
    fn why(name_or_id: &str) -> Why = GET format!("{}/why", url::path("/v1/devices", name_or_id));

    /// Changes a device; by name or id.
    /// Refused with `not_found` when there is no such device, `conflict` when the new name is taken.
    fn change_device(name_or_id: &str, change: &DeviceChange) -> Device = PATCH url::path("/v1/devices", name_or_id), change;

    /// Lets a device in that waits for approval; by name or id. Refused with `not_found` when there is no
    /// such device, `conflict` when it does not wait or the new name is taken.
    fn approve_device(name_or_id: &str, approval: &Approval) -> Device = POST format!("{}/approve", url::path("/v1/devices", name_or_id)), approval;

    /// Makes a join token with which another machine takes a device's record over; by name or id. The
    /// certificate that the device has dies when it is used.
    /// Refused with `not_found` when there is no such device.
    fn re_enrol_device(name_or_id: &str, asked: &ReEnrolment) -> CreatedToken = POST format!("{}/re-enrol", url::path("/v1/devices", name_or_id)), asked;

    /// Removes a device; by name or id. It is refused from then on, its open link is closed, its events stay.
    /// Refused with `not_found` when there is no such device.
    fn remove_device(name_or_id: &str) -> Device = DELETE url::path("/v1/devices", name_or_id);

    /// All tags, by name.
    fn tags() -> Vec<Tag> = GET "/v1/tags";

    /// Gives devices a tag, or takes it from them, or says how many are meant.
    /// Refused with `not_found` when there is no such device, or no such tag to be taken.
    fn change_tag(tag: &str, change: &TagChange) -> Selected = POST url::path("/v1/tags", tag), change;

    /// Gives a tag a rule, or none; the number of devices that have it by the rule now.
    fn set_tag_rule(tag: &str, rule: &TagRule) -> Selected = PATCH url::path("/v1/tags", tag), rule;

    /// Removes a tag, from all devices and with its rule. Refused with `not_found` when there is none.
    fn remove_tag(tag: &str) -> Tag = DELETE url::path("/v1/tags", tag);

    /// All views, by name.
    fn views() -> Vec<View> = GET "/v1/views";

    /// Gives a filter a name, or a name another filter.
    fn save_view(view: &View) -> View = POST "/v1/views", view;

    /// Removes a view. Refused with `not_found` when there is none.
    fn remove_view(name: &str) -> View = DELETE url::path("/v1/views", name);

    /// Counts a selection by what its devices are.
    fn facets(query: &FacetQuery) -> Facets = GET url::with_query("/v1/facets", query);

    /// Changes every device of a selection, all or none, or says how many are meant.
    fn change_selection(change: &SelectionChange) -> Selected = POST "/v1/device-changes", change;

    /// Approves every device of a selection that waits, all or none, or says how many are meant.
    fn approve_selection(asked: &SelectionApproval) -> Selected = POST "/v1/device-approvals", asked;

    /// Removes every device of a selection, piece by piece, or says how many are meant.
    fn remove_selection(asked: &SelectionRemoval) -> Selected = POST "/v1/device-removals", asked;

    /// Makes a group, with every group above it that doesn't exist; one that exists gets the settings that
    /// are named.
    fn create_group(new: &NewGroup) -> NewGroup = POST "/v1/groups", new;

    /// Moves a group, or says how many devices that would give other settings.
    fn move_group(asked: &GroupMove) -> SettingsChanged = POST "/v1/groups/move", asked;

    /// Removes a group, or says how many devices that would give other settings.
    fn remove_group(asked: &GroupRemoval) -> SettingsChanged = POST "/v1/groups/remove", asked;

    /// Sets a group's policy.
    fn set_policy(new: &NewPolicy) -> SettingsChanged = POST "/v1/policies", new;

    /// Removes a group's policy.
    /// Refused with `not_found` when there is none.
    fn remove_policy(asked: &PolicyRemoval) -> SettingsChanged = POST "/v1/policies/remove", asked;

    /// Sets a device's own settings.
    fn set_settings(new: &NewPolicy) -> SettingsChanged = POST "/v1/settings", new;

    /// Removes a device's own settings.
    /// Refused with `not_found` when there are none.
    fn remove_settings(asked: &PolicyRemoval) -> SettingsChanged = POST "/v1/settings/remove", asked;

    /// Settings that a device should have, by application, and its report of them; by name or id.
    /// Refused with `not_found` when there is no such device.
    fn settings(name_or_id: &str) -> Vec<ApplicationSettings> = GET format!("{}/settings", url::path("/v1/devices", name_or_id));

    /// Makes a task.
    /// Refused with `not_found` when there is no such device or group.
    fn create_task(new: &NewTask) -> CreatedTask = POST "/v1/tasks", new;

    /// One task, whole but for its runs.
    /// Refused with `not_found` when there is no such task.
    fn task(id: TaskId) -> TaskDetail = GET format!("/v1/tasks/{id}");

    /// Cancels a task, and those of its runs that have not ended. A device is told to end a run that it
    /// executes already.
    /// Refused with `not_found` when there is no such task.
    fn cancel_task(id: TaskId) -> Task = POST format!("/v1/tasks/{id}/cancel");

    /// Removes an artifact that no active task needs.
    /// Refused with `not_found` when there is no such artifact, `conflict` when a task needs it.
    fn remove_artifact(hash: ArtifactHash) -> StoredArtifact = DELETE format!("/v1/artifacts/{hash}");

    /// One run, with what its program wrote.
    /// Refused with `not_found` when there is no such run.
    fn run(id: RunId) -> RunDetail = GET format!("/v1/runs/{id}");
}

/// Declares methods that list: the query, the items, the path.
macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident: $query:ty => $item:ty = $path:literal;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub fn $name(&mut self, query: $query) -> Pages<'_, $query, $item> {
                    Pages::new(self, $path, query)
                }
            )*
        }
    };
}

lists! {
    /// Devices, by name or as the query sorts them.
    devices: DeviceQuery => Device = "/v1/devices";

    /// Installed applications, by name and version, with the number of devices that have each.
    applications: ApplicationQuery => InstalledApplication = "/v1/applications";

    /// Which devices have an application: one item for each application on each device.
    installations: ApplicationQuery => Installation = "/v1/installations";

    /// Stored events, newest first.
    events: EventQuery => EventRecord = "/v1/events";

    /// Rows of the audit, newest first.
    audit: AuditQuery => AuditRecord = "/v1/audit";

    /// Policies, by group and application.
    policies: PolicyQuery => Policy = "/v1/policies";

    /// Versions of a policy, the newest first.
    /// Refused with `not_found` when there is no such group.
    policy_history: PolicyHistoryQuery => PolicyVersion = "/v1/policies/history";

    /// Tasks, newest first.
    tasks: TaskQuery => Task = "/v1/tasks";

    /// Runs of a task or on a device, those that were due last first; the query has to name one of the two.
    runs: RunQuery => TaskRun = "/v1/runs";
}
