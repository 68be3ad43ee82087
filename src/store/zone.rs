//! Time zones by their IANA names: as the system knows them, whose data its updates keep right, else as this
//! program does, so that a system without any has them as well.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase, db};

/// Those within the program, of the IANA database's version at which it was built.
static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Names in a zoneinfo directory that stand for another zone, or for none: what they mean may change, or is
/// not known.
const NO_ZONES: [&str; 4] = ["localtime", "posixrules", "factory", "etc/unknown"];

/// There is no zone of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time zone (an IANA name, such as Europe/Berlin, America/New_York or UTC)")]
pub struct UnknownZone(pub String);

/// Finds a zone; capitals don't matter. [`TimeZone::iana_name`] is the name in its proper spelling.
///
/// # Errors
/// When there is none of that name.
pub fn find(name: &str) -> Result<TimeZone, UnknownZone> {
    let is_none = NO_ZONES.contains(&name.to_ascii_lowercase().as_str());
    let found = if is_none { None } else { db().get(name).or_else(|_| BUNDLED.get(name)).ok() };
    found.ok_or_else(|| UnknownZone(name.to_owned()))
}

/// The name of the system's zone: the environment's `TZ`, else that which `/etc/localtime` leads to. UTC when
/// it has none, as when `TZ` is a rule or the file a copy.
#[must_use]
pub fn system_name() -> String {
    let system = TimeZone::try_system().ok();
    let named = system.and_then(|zone| find(zone.iana_name()?).ok());
    named.as_ref().and_then(TimeZone::iana_name).unwrap_or("UTC").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_name_with_and_without_the_systems_data() {
        for (name, written) in
            [("europe/berlin", "Europe/Berlin"), ("utc", "UTC"), ("America/New_York", "America/New_York")]
        {
            assert_eq!(find(name).unwrap().iana_name(), Some(written));
            assert_eq!(BUNDLED.get(name).unwrap().iana_name(), Some(written));
        }
        assert!(find(&system_name()).is_ok());
    }

    #[test]
    fn what_is_no_zone_is_named_with_an_example() {
        for name in [
            "",
            "Europe/Berln",
            "localtime",
            "Factory",
            "CET-1CEST",
            "../Europe/Berlin",
            "/etc/passwd",
            "+01:00",
            "Etc/Unknown",
        ] {
            let said = find(name).unwrap_err().to_string();
            assert!(
                said.starts_with(&format!("'{name}' is not a time zone")) && said.contains("Europe/Berlin"),
                "{said}"
            );
        }
    }
}
