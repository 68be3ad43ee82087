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
#[cfg(feature = "ctl")]
pub mod cli;
mod connection;
mod error;
mod pages;
mod streams;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::api::{
    ApplicationQuery, ApplicationSettings, CallRequest, CreatedTask, CreatedToken, Device, DeviceChange,
    DeviceDetail, DeviceQuery, EventQuery, EventRecord, ExplainQuery, ExplainedKey, FollowQuery, Group,
    GroupMove, GroupRemoval, Installation, InstalledApplication, NewGroup, NewPolicy, NewTask, NewToken,
    PageQuery, Policy, PolicyQuery, PolicyRemoval, RunDetail, RunQuery, SettingsChanged, Status, Task,
    TaskDetail, TaskQuery, TaskRun, Token, Why,
};
use crate::wire::id::{RunId, TaskId, TokenId};

pub use address::{Address, DEFAULT_SOCKET, SERVER_VARIABLE};
pub use error::ClientError;
pub use pages::{Paged, Pages};
pub use streams::{BackupPieces, Follow, Sync};

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

    /// The server at a glance.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.ask("GET", "/v1/status", None::<&()>)
    }

    /// A backup of the server, as it makes it. It holds private keys.
    ///
    /// # Errors
    /// When the server can't be reached, or is making another one (`busy`).
    pub fn backup(&mut self) -> Result<BackupPieces<'_>, ClientError> {
        BackupPieces::begin(self)
    }

    /// Makes a join token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub fn create_token(&mut self, new: &NewToken) -> Result<CreatedToken, ClientError> {
        self.ask("POST", "/v1/tokens", Some(new))
    }

    /// All join tokens, newest first.
    pub fn tokens(&mut self) -> Pages<'_, PageQuery, Token> {
        Pages::new(self, "/v1/tokens", PageQuery::default())
    }

    /// Withdraws a join token. Devices that enrolled with it stay.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such token.
    pub fn revoke_token(&mut self, id: TokenId) -> Result<Token, ClientError> {
        self.ask("DELETE", &format!("/v1/tokens/{id}"), None::<&()>)
    }

    /// Devices, by name.
    pub fn devices(&mut self, query: DeviceQuery) -> Pages<'_, DeviceQuery, Device> {
        Pages::new(self, "/v1/devices", query)
    }

    /// One device, whole; by name or id.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device.
    pub fn device(&mut self, name_or_id: &str) -> Result<DeviceDetail, ClientError> {
        self.ask("GET", &pages::path("/v1/devices", name_or_id), None::<&()>)
    }

    /// Why a device is in sync or not, and when it will be; by name or id.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device.
    pub fn why(&mut self, name_or_id: &str) -> Result<Why, ClientError> {
        self.ask("GET", &format!("{}/why", pages::path("/v1/devices", name_or_id)), None::<&()>)
    }

    /// Has devices sync now. Their outcomes come line by line.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device or group, and
    /// `busy` when too many are called already: then none is called.
    pub fn sync(&mut self, request: &CallRequest) -> Result<Sync<'_>, ClientError> {
        Sync::new(self, request)
    }

    /// Changes a device; by name or id.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device, `conflict` when
    /// the new name is taken.
    pub fn change_device(&mut self, name_or_id: &str, change: &DeviceChange) -> Result<Device, ClientError> {
        self.ask("PATCH", &pages::path("/v1/devices", name_or_id), Some(change))
    }

    /// Removes a device; by name or id. It is refused from then on, its open link is closed, its events stay.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device.
    pub fn remove_device(&mut self, name_or_id: &str) -> Result<Device, ClientError> {
        self.ask("DELETE", &pages::path("/v1/devices", name_or_id), None::<&()>)
    }

    /// Installed applications, by name and version, with the number of devices that have each.
    pub fn applications(
        &mut self,
        query: ApplicationQuery,
    ) -> Pages<'_, ApplicationQuery, InstalledApplication> {
        Pages::new(self, "/v1/applications", query)
    }

    /// Which devices have an application: one item for each application on each device.
    pub fn installations(&mut self, query: ApplicationQuery) -> Pages<'_, ApplicationQuery, Installation> {
        Pages::new(self, "/v1/installations", query)
    }

    /// Stored events, newest first.
    pub fn events(&mut self, query: EventQuery) -> Pages<'_, EventQuery, EventRecord> {
        Pages::new(self, "/v1/events", query)
    }

    /// Events as they become durable. Goes on by itself when the server restarts.
    pub fn follow(&mut self, query: FollowQuery) -> Follow<'_> {
        Follow::new(self, query)
    }

    /// Makes a group, with every group above it that doesn't exist; one that exists gets the settings that
    /// are named.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub fn create_group(&mut self, new: &NewGroup) -> Result<NewGroup, ClientError> {
        self.ask("POST", "/v1/groups", Some(new))
    }

    /// All groups, by path.
    pub fn groups(&mut self) -> Pages<'_, PageQuery, Group> {
        Pages::new(self, "/v1/groups", PageQuery::default())
    }

    /// Moves a group, or says how many devices that would give other settings.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub fn move_group(&mut self, asked: &GroupMove) -> Result<SettingsChanged, ClientError> {
        self.ask("POST", "/v1/groups/move", Some(asked))
    }

    /// Removes a group, or says how many devices that would give other settings.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub fn remove_group(&mut self, asked: &GroupRemoval) -> Result<SettingsChanged, ClientError> {
        self.ask("POST", "/v1/groups/remove", Some(asked))
    }

    /// Sets a group's policy.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub fn set_policy(&mut self, new: &NewPolicy) -> Result<SettingsChanged, ClientError> {
        self.ask("POST", "/v1/policies", Some(new))
    }

    /// Removes a group's policy.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is none.
    pub fn remove_policy(&mut self, asked: &PolicyRemoval) -> Result<SettingsChanged, ClientError> {
        self.ask("POST", "/v1/policies/remove", Some(asked))
    }

    /// Policies, by group and application.
    pub fn policies(&mut self, query: PolicyQuery) -> Pages<'_, PolicyQuery, Policy> {
        Pages::new(self, "/v1/policies", query)
    }

    /// Sets a device's own settings.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub fn set_settings(&mut self, new: &NewPolicy) -> Result<SettingsChanged, ClientError> {
        self.ask("POST", "/v1/settings", Some(new))
    }

    /// Removes a device's own settings.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there are none.
    pub fn remove_settings(&mut self, asked: &PolicyRemoval) -> Result<SettingsChanged, ClientError> {
        self.ask("POST", "/v1/settings/remove", Some(asked))
    }

    /// Settings that a device should have, by application, and its report of them; by name or id.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device.
    pub fn settings(&mut self, name_or_id: &str) -> Result<Vec<ApplicationSettings>, ClientError> {
        self.ask("GET", &format!("{}/settings", pages::path("/v1/devices", name_or_id)), None::<&()>)
    }

    /// Origin of each key of a device's settings; by name or id.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device.
    pub fn explain(&mut self, name_or_id: &str, application: &str) -> Result<Vec<ExplainedKey>, ClientError> {
        let path = format!("{}/settings/explain", pages::path("/v1/devices", name_or_id));
        let asked = ExplainQuery { application: application.to_owned() };
        self.ask("GET", &pages::with_query(&path, &asked), None::<&()>)
    }

    /// Makes a task.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such device or group.
    pub fn create_task(&mut self, new: &NewTask) -> Result<CreatedTask, ClientError> {
        self.ask("POST", "/v1/tasks", Some(new))
    }

    /// Tasks, newest first.
    pub fn tasks(&mut self, query: TaskQuery) -> Pages<'_, TaskQuery, Task> {
        Pages::new(self, "/v1/tasks", query)
    }

    /// One task, whole but for its runs.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such task.
    pub fn task(&mut self, id: TaskId) -> Result<TaskDetail, ClientError> {
        self.ask("GET", &format!("/v1/tasks/{id}"), None::<&()>)
    }

    /// Cancels a task, and those of its runs that have not ended. A device is told to end a run that it
    /// executes already.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such task.
    pub fn cancel_task(&mut self, id: TaskId) -> Result<Task, ClientError> {
        self.ask("POST", &format!("/v1/tasks/{id}/cancel"), None::<&()>)
    }

    /// Runs of a task or on a device, those that were due last first; the query has to name one of the two.
    pub fn runs(&mut self, query: RunQuery) -> Pages<'_, RunQuery, TaskRun> {
        Pages::new(self, "/v1/runs", query)
    }

    /// One run, with what its program wrote.
    ///
    /// # Errors
    /// When the server can't be reached or refuses; `not_found` when there is no such run.
    pub fn run(&mut self, id: RunId) -> Result<RunDetail, ClientError> {
        self.ask("GET", &format!("/v1/runs/{id}"), None::<&()>)
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
