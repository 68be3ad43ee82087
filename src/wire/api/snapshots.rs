//! The JSON of the administration API, pinned: scripts use its names. Each file below `snapshots/` has, by
//! type, examples that are read and must come out again as they are; in the first one everything is there.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;

fn read_back<T: Serialize + DeserializeOwned>(file: &str, examples: &Value) -> Value {
    let name = std::any::type_name::<T>();
    let examples = examples.as_array().unwrap_or_else(|| panic!("{file} has no examples of {name}"));
    assert!(!has_null(&examples[0]), "{file}: something is left out in the first example of {name}");
    let read = |one: &Value| {
        let read = serde_json::from_value::<T>(one.clone());
        serde_json::to_value(read.unwrap_or_else(|error| panic!("{file}: {name}: {error}: {one}"))).unwrap()
    };
    examples.iter().map(read).collect()
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

/// One example a line.
fn written(file: &Value) -> String {
    let of_type = |(name, examples): (&String, &Value)| {
        let examples = examples.as_array().unwrap().iter().map(|one| format!("  {one}"));
        format!("\"{name}\": [\n{}\n]", examples.collect::<Vec<_>>().join(",\n"))
    };
    format!("{{\n{}\n}}\n", file.as_object().unwrap().iter().map(of_type).collect::<Vec<_>>().join(",\n"))
}

macro_rules! pinned {
    ($($test:ident: $($type:ty),+;)+) => {$(
        #[test]
        fn $test() {
            let file = concat!("snapshots/", stringify!($test), ".json");
            let kept: Value =
                serde_json::from_str(include_str!(concat!("snapshots/", stringify!($test), ".json"))).unwrap();
            let now = serde_json::json!({
                $(stringify!($type): read_back::<$type>(file, &kept[stringify!($type)]),)+
            });
            assert!(
                kept == now,
                "names that scripts use have changed; if that is meant, tell it in CHANGELOG.md, and let {file} be:\n{}",
                written(&now)
            );
        }
    )+};
}

pinned! {
    application: ApplicationQuery, InstalledApplication, Installation, Page<InstalledApplication>;
    api_token: NewApiToken, CreatedApiToken, ApiToken;
    artifact: NewArtifact, StoredArtifact;
    audit: AuditQuery, AuditRecord, AuditCheck;
    call: CallRequest, CallLine;
    certificate: CertificateStatus, CertificateChange, RecoveryKey;
    device: DeviceQuery, Device, DeviceDetail, DeviceChange, Why;
    error: ErrorBody;
    event: EventQuery, EventRecord, FollowQuery, FollowLine, Page<EventRecord>;
    group: NewGroup, Group, GroupMove, GroupRemoval;
    policy: NewPolicy, PolicyQuery, Policy, PolicyHistoryQuery, PolicyVersion, PolicyRemoval, SettingsChanged, ApplicationSettings, ExplainQuery,
        ExplainedKey;
    status: Status;
    tag: Tag, TagChange, TagRule, View, SelectionChange, SelectionApproval, SelectionRemoval, Selected, FacetQuery, Facets;
    task: NewTask, CreatedTask, TaskQuery, Task, TaskDetail, RunQuery, TaskRun, RunDetail;
    token: NewToken, CreatedToken, ReEnrolment, Approval, Token, PageQuery;
    user: NewUser, UserChange, User, UserLink, SignIn, OpenIdAnswer, Session;
}
