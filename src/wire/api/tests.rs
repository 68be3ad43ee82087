use super::*;
use crate::wire::time::WallTime;

#[test]
fn a_timestamp_is_rfc_3339_and_survives() {
    let time = Timestamp(WallTime(1_795_514_400_123));
    let json = serde_json::to_string(&time).unwrap();
    assert_eq!(json, "\"2026-11-24T10:00:00.123Z\"");
    assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
}

#[test]
fn an_absurd_time_of_a_device_is_still_a_timestamp() {
    let json = serde_json::to_string(&Timestamp(WallTime(u64::MAX))).unwrap();
    assert!(json.starts_with("\"9999-12-"), "{json}");
    assert!(serde_json::from_str::<Timestamp>(&json).is_ok());
}

#[test]
fn a_token_that_was_made_is_flat_and_its_debug_keeps_the_secret() {
    let created = CreatedToken {
        info: Token {
            id: crate::wire::id::TokenId(7),
            state: TokenState::UsedUp,
            group: "/".into(),
            uses: 1,
            used: 1,
            created_at: Timestamp(WallTime(0)),
            expires_at: Timestamp(WallTime(1)),
            names: None,
            device: None,
            device_name: None,
            approval: false,
        },
        token: "muster1-secret".into(),
        install: Some("… | MUSTER_TOKEN=muster1-secret sh".into()),
        install_hint: None,
    };
    let json = serde_json::to_value(&created).unwrap();
    assert_eq!(json["id"], "0000000000000007");
    assert_eq!(json["state"], "used_up");
    assert_eq!(json["token"], "muster1-secret");
    assert!(!format!("{created:?}").contains("secret"));
    assert_eq!(serde_json::from_value::<CreatedToken>(json).unwrap(), created);
}

#[test]
fn an_unknown_error_code_of_a_newer_server_is_still_an_error() {
    let body: ErrorBody =
        serde_json::from_str(r#"{"error":{"code":"teapot","message":"short and stout"}}"#).unwrap();
    assert_eq!(body.error.code, ErrorCode::Unknown);
    assert_eq!(body.error.to_string(), "short and stout");
}

#[test]
fn an_unknown_key_of_a_new_task_is_refused_with_all_that_are_allowed() {
    let task = r#"{"application": "shop", "kind": "backup", "targets": "all""#;
    let new: NewTask = serde_json::from_str(&format!("{task}}}")).unwrap();
    let said = serde_json::from_str::<NewTask>(&format!(r#"{task}, "contnuous": true}}"#)).unwrap_err();
    let said = said.to_string();
    let allowed = said.strip_prefix("unknown field `contnuous`, expected one of ").unwrap_or_default();
    let mut allowed: Vec<&str> = allowed.split('`').skip(1).step_by(2).collect();
    allowed.sort_unstable();
    let keys = serde_json::to_value(new).unwrap();
    assert_eq!(allowed, keys.as_object().unwrap().keys().collect::<Vec<_>>(), "{said}");
    let said = serde_json::from_str::<NewTask>(&task.replace(r#""all""#, r#""some"}"#)).unwrap_err();
    let wanted = "unknown variant `some`, expected one of `devices`, `group`, `where`, `all`";
    assert!(said.to_string().starts_with(wanted), "{said}");
}

#[test]
fn a_query_with_an_unknown_key_is_refused() {
    assert!(serde_json::from_str::<DeviceQuery>(r#"{"wehre":"x"}"#).is_err());
    assert!(serde_json::from_str::<DeviceQuery>(r#"{"sort":"colour"}"#).is_err());
    assert!(serde_json::from_str::<DeviceQuery>(r#"{"where":"x","sort":"-status","limit":5}"#).is_ok());
}
