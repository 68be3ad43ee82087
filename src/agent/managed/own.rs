//! The agent as one of its own managed applications: what the server may set of it.
//!
//! The device's `muster-agent.toml` is the ground; what the server sets lies above it. It is kept in the data
//! directory, and in force from the agent's start on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::agent::ab_slots::{AbSlots, SlotError};
use crate::agent::address::{AddressError, HOSTS_MAX, ServerAddress};
use crate::agent::application::check::AGENT_NAME;
use crate::agent::identity::{Identity, KeyType, RenewalKey};
use crate::agent::settings::{
    LogLevel, SPOOL_QUOTA_MEBIBYTES_MAX, SPOOL_QUOTA_MEBIBYTES_MIN, Settings, SpoolSettings,
};
use crate::agent::signature;
use crate::fleet::pacing::{INTERVAL_SECONDS_MAX, INTERVAL_SECONDS_MIN};
use crate::fleet::schema::Schema;
use crate::wire::settings::Declaration;

/// Name of the slots that hold what is in force.
pub(in crate::agent) const SLOT: &str = "own-settings";

/// The server's settings of the agent. Settings that it did not make are as the device says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnSettings {
    /// The longest between two syncs.
    pub interval_seconds: Option<u32>,
    /// The log's level.
    pub log_level: Option<LogLevel>,
    /// Kind of the device's key.
    pub key_type: Option<KeyType>,
    /// Key of a renewed certificate.
    pub renewal_key: Option<RenewalKey>,
    /// Key that signs artifacts, for a device on which none is pinned.
    #[serde(deserialize_with = "signature::optional_key")]
    pub release_key: Option<String>,
    /// The servers of the fleet, in the order in which they are tried.
    #[serde(deserialize_with = "server_list")]
    pub servers: Option<ServerAddress>,
    /// The spool's quotas, by their keys in `[spool]` of the device's file.
    pub spool: BTreeMap<String, u32>,
}

fn server_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ServerAddress>, D::Error> {
    let hosts = Vec::<String>::deserialize(deserializer)?;
    hosts.join(",").parse().map(Some).map_err(serde::de::Error::custom)
}

/// The settings, as a JSON Schema.
#[must_use]
pub fn schema() -> String {
    let quota = serde_json::json!({
        "type": "integer", "minimum": SPOOL_QUOTA_MEBIBYTES_MIN, "maximum": SPOOL_QUOTA_MEBIBYTES_MAX,
    });
    serde_json::json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "interval_seconds": {
                "type": "integer", "minimum": INTERVAL_SECONDS_MIN, "maximum": INTERVAL_SECONDS_MAX,
            },
            "log_level": { "enum": ["error", "warn", "info", "debug"] },
            "key_type": { "enum": ["ed25519", "p256"] },
            "renewal_key": { "enum": ["new", "same"] },
            "release_key": { "type": "string" },
            "servers": {
                "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": HOSTS_MAX,
            },
            "spool": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "info_mebibytes": quota, "warning_mebibytes": quota,
                    "error_mebibytes": quota, "critical_mebibytes": quota,
                },
            },
        },
    })
    .to_string()
}

/// The agent's offer of itself.
#[must_use]
pub fn declaration() -> Declaration {
    Declaration {
        application: AGENT_NAME.to_owned(),
        takes_settings: true,
        settings_schema: schema(),
        kinds: Vec::new(),
    }
}

impl OwnSettings {
    /// Reads what was ordered.
    ///
    /// # Errors
    /// When it says something that is not allowed: which key, and what is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let schema = Schema::parse(&schema()).map_err(|error| error.to_string())?;
        schema.check(&value).map_err(|violation| violation.to_string())?;
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// The settings in force, as `directory` has them. Settings that can't be read are not in force, and the
    /// log says why.
    #[must_use]
    pub fn read(directory: &Path) -> Self {
        let read = match AbSlots::new(directory, SLOT).read() {
            Ok(None) => return Self::default(),
            Ok(Some(bytes)) => Self::parse(&String::from_utf8_lossy(&bytes)),
            Err(error) => Err(error.to_string()),
        };
        read.unwrap_or_else(|error| {
            log::error!("what the server set of the agent is not in force: {error}");
            Self::default()
        })
    }

    /// Has `text`, which was [read](Self::parse), in force from the next start on; durable when this returns.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep(directory: &Path, text: &str) -> Result<(), SlotError> {
        AbSlots::new(directory, SLOT).write(text.as_bytes())
    }

    /// The servers that are tried: those that the server named, and behind them those that the device's file
    /// has or its enrolment, so that a wrong list strands no device.
    ///
    /// # Errors
    /// When the device's own are none.
    pub fn servers(
        &self,
        configured: Option<&str>,
        identity: &Identity,
    ) -> Result<ServerAddress, AddressError> {
        let home: ServerAddress = configured.unwrap_or(&identity.server).parse()?;
        Ok(match &self.servers {
            Some(named) => named.clone().followed_by(&home),
            None => home,
        })
    }

    /// The level of the log, above what the device's file says.
    #[must_use]
    pub fn log_level(&self, ground: &Settings) -> LogLevel {
        self.log_level.unwrap_or(ground.log_level)
    }

    /// Kind of the device's key, above what the device's file says. When both are silent the device keeps the
    /// kind that it has: its enrolment chose it.
    #[must_use]
    pub fn key_type(&self, ground: &Settings, identity: &Identity) -> KeyType {
        self.key_type.or(ground.key_type).unwrap_or_else(|| identity.key_type())
    }

    /// Key of a renewed certificate, above what the device's file says.
    #[must_use]
    pub fn renewal_key(&self, ground: &Settings) -> RenewalKey {
        self.renewal_key.unwrap_or(ground.renewal_key)
    }

    /// The spool's quotas, above what the device's file says.
    #[must_use]
    pub fn spool(&self, ground: &Settings) -> SpoolSettings {
        let set = |key: &str, ground: u32| self.spool.get(key).copied().unwrap_or(ground);
        let ground = ground.spool;
        SpoolSettings {
            info_mebibytes: set("info_mebibytes", ground.info_mebibytes),
            warning_mebibytes: set("warning_mebibytes", ground.warning_mebibytes),
            error_mebibytes: set("error_mebibytes", ground.error_mebibytes),
            critical_mebibytes: set("critical_mebibytes", ground.critical_mebibytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_lies_above_the_ground() {
        let own = OwnSettings::parse(
            "{\"interval_seconds\":600,\"log_level\":\"debug\",\"spool\":{\"info_mebibytes\":8}}",
        )
        .unwrap();
        let ground = Settings::default();
        assert_eq!(own.log_level(&ground), LogLevel::Debug);
        assert_eq!(own.spool(&ground), SpoolSettings { info_mebibytes: 8, ..ground.spool });
        assert_eq!(OwnSettings::parse("{}").unwrap().spool(&ground), ground.spool);
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_key() {
        for (text, key) in [
            ("{\"interval_seconds\":1}", "interval_seconds"),
            ("{\"interval\":600}", "interval"),
            ("{\"log_level\":\"loud\"}", "log_level"),
            ("{\"spool\":{\"info_mebibytes\":0}}", "spool.info_mebibytes"),
            ("{\"spool\":{\"all_mebibytes\":1}}", "all_mebibytes"),
            ("{\"release_key\":\"RW\"}", "minisign"),
            ("{\"servers\":[]}", "servers"),
            ("{\"servers\":[\"a\",\"b b\"]}", "'b b' is not a server"),
            ("[]", "object"),
        ] {
            let error = OwnSettings::parse(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn an_interval_that_the_server_takes_is_taken_here_and_no_other() {
        let parsed = |seconds: u32| OwnSettings::parse(&format!("{{\"interval_seconds\":{seconds}}}"));
        for seconds in [INTERVAL_SECONDS_MIN, INTERVAL_SECONDS_MAX] {
            assert_eq!(parsed(seconds).unwrap().interval_seconds, Some(seconds));
        }
        for seconds in [INTERVAL_SECONDS_MIN - 1, INTERVAL_SECONDS_MAX + 1] {
            assert!(parsed(seconds).unwrap_err().contains("interval_seconds"), "{seconds}");
        }
    }

    #[test]
    fn named_servers_come_before_the_devices_own() {
        let directory = tempfile::tempdir().unwrap();
        let identity = crate::agent::identity::tests::example();
        let text = "{\"interval_seconds\":600,\"servers\":[\"b.example.org:99\"]}";
        OwnSettings::keep(directory.path(), text).unwrap();
        let servers = |configured| {
            OwnSettings::read(directory.path()).servers(configured, &identity).unwrap().to_string()
        };
        assert_eq!(servers(None), format!("b.example.org:99,{}", identity.server));
        assert_eq!(servers(Some("c")), "b.example.org:99,c:13000");
        OwnSettings::keep(directory.path(), "{}").unwrap();
        assert_eq!(servers(None), identity.server);
    }

    #[test]
    fn what_is_kept_is_in_force_again() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(OwnSettings::read(directory.path()), OwnSettings::default());
        OwnSettings::keep(directory.path(), "{\"interval_seconds\":600}").unwrap();
        assert_eq!(OwnSettings::read(directory.path()).interval_seconds, Some(600));
    }
}
