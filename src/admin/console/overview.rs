//! The first page: what needs somebody now.

use super::api::Api;
use super::devices;
use super::form::Fields;
use super::page::{Answer, Page, Part, Problem, Tile};
use super::text::{count, many};
use crate::wire::api::url::with_query;
use crate::wire::api::{
    CertificateStage, ClockCondition, Device, DeviceQuery, ErrorCode, FacetValue, Facets, JournalCondition,
    Page as ListPage, Status, StoreCondition,
};

/// Share of a limit from which on it is named.
const LIMIT_NEAR_PERCENT: u64 = 90;

/// Most devices that are listed of one kind.
const LISTED_MAX: u32 = 10;

/// Filters of what is counted: its name, the colour of its number when there are some, the filter.
const COUNTED: [(&str, &str, &str); 6] = [
    ("devices", "", ""),
    ("connected", "good", "presence:connected"),
    ("waiting for approval", "warn", "presence:waiting"),
    ("warning", "warn", "status:warning"),
    ("critical", "bad", "status:critical"),
    ("lost", "bad", "presence:lost"),
];

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let (facets, status) = tokio::join!(api.get::<Facets>("/v1/facets"), api.get::<Status>("/v1/status"));
    let facets = facets?;
    let status = match status {
        Ok(status) => Some(status),
        // Those who see some groups alone see nothing of the server.
        Err(error) if error.code == ErrorCode::Forbidden => None,
        Err(error) => return Err(Problem(error)),
    };
    let page = Page::new("/", "Overview").command("musterctl status").said(&fields);
    if facets.devices == 0 && status.is_some() {
        return page
            .with(Part::text("There is no device yet. Make a join token, and enrol the first one with it:"))
            .with(Part::Written(
                "musterctl token create\nsudo muster-agent enroll --server THIS-HOST --token-file -".into(),
            ))
            .with(Part::heading("The server"))
            .with_all(server(status.as_ref()))
            .into();
    }
    let mut page = page.with(Part::Tiles(tiles(&facets))).with_all(server(status.as_ref()));
    for (title, filter) in [("Waiting for approval", "presence:waiting"), ("Critical", "status:critical")] {
        // Looked for only where there are some: that goes through all devices.
        if counted(&facets, filter) > 0 {
            let found: ListPage<Device> = api.get(&listed(filter)).await?;
            page = page.with(Part::heading(title)).with(devices::table(title, found.items, None, None));
        }
    }
    page.into()
}

fn listed(filter: &str) -> String {
    let query =
        DeviceQuery { filter: Some(filter.into()), limit: Some(LISTED_MAX), ..DeviceQuery::default() };
    with_query("/v1/devices", &query)
}

/// Number of devices that one of the filters lets through.
fn counted(facets: &Facets, filter: &str) -> u64 {
    let of = |values: &[FacetValue], value: &str| {
        values.iter().find(|one| one.value == value).map_or(0, |one| one.devices)
    };
    match filter.split_once(':') {
        Some(("presence", value)) => of(&facets.presence, value),
        Some(("status", value)) => of(&facets.status, value),
        _ => facets.devices,
    }
}

fn tiles(facets: &Facets) -> Vec<Tile> {
    let tile = |(label, kind, filter)| {
        let number = counted(facets, filter);
        let kind = if number > 0 { kind } else { "" };
        Tile { label, value: count(number), kind, url: devices::url(filter) }
    };
    COUNTED.into_iter().map(tile).collect()
}

/// The faults of the server, a notice each; one line when nothing is.
pub(super) fn server(status: Option<&Status>) -> Vec<Part> {
    let Some(status) = status else { return Vec::new() };
    let troubles = troubles(status);
    if troubles.is_empty() {
        let rate = status.events.stored_per_second;
        let links = many(status.links.open, "open link");
        return vec![Part::text(format!("The server is well: {links}, {rate} events a second."))];
    }
    troubles.into_iter().map(Part::Notice).collect()
}

fn troubles(status: &Status) -> Vec<String> {
    let mut found = Vec::new();
    let mut tell = |is_so: bool, text: String| found.extend(is_so.then_some(text));
    let reason = |reason: &Option<String>| reason.clone().unwrap_or_else(|| "see the server's log".into());
    let (journal, store, backup) = (&status.journal, &status.store, &status.backup);
    tell(
        store.condition != StoreCondition::Ok,
        format!("The database takes no changes: {}", reason(&store.reason)),
    );
    tell(store.log_blocked_since.is_some(), {
        let by = store.log_blocked_by.as_deref().unwrap_or("somebody");
        format!("The database's write-ahead log grows, because {by} reads and does not end.")
    });
    tell(
        journal.condition == JournalCondition::NoRoom,
        format!("The event log has no room, devices keep their events: {}", reason(&journal.reason)),
    );
    tell(
        journal.condition == JournalCondition::Failed,
        format!("The event log failed: {}", reason(&journal.reason)),
    );
    tell(
        journal.damages_total > 0 || journal.warnings.is_damaged,
        "The event log is damaged: see 'musterd journal verify'.".into(),
    );
    tell(backup.failing_since.is_some(), format!("No backup can be made: {}", reason(&backup.reason)));
    tell(
        backup.directory.is_none(),
        "No backups are scheduled: set [backup] directory in musterd.toml.".into(),
    );
    tell(
        status.clock.condition == ClockCondition::Doubted,
        "The server's clock is doubted: nothing is deleted or expires by age until it is believed.".into(),
    );
    tell(
        status.certificate_stage != CertificateStage::Current,
        format!(
            "A rotation of the server's key is under way ({}): see 'musterctl certificate status'.",
            status.certificate_stage
        ),
    );
    tell(
        status.log.lines_dropped > 0,
        format!("{} lines of the server's log were dropped.", count(status.log.lines_dropped)),
    );
    for limit in &status.limits {
        if let Some(used) = limit.used
            && limit.value > 0
            && used.saturating_mul(100) >= limit.value.saturating_mul(LIMIT_NEAR_PERCENT)
        {
            let (name, used, value) = (&limit.name, count(used), count(limit.value));
            tell(true, format!("The limit of {name} is near: {used} of {value} are used."));
        }
    }
    found
}
