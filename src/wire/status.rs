//! Whether a device is well.

use serde::{Deserialize, Serialize};

use super::named::named;

named! {
    /// Whether a device is well, as its group's rules judge it.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = DeviceStatus))]
    #[serde(rename_all = "snake_case")]
    Status, else "a status: ok, warning, critical are" {
        /// Nothing is known against it.
        #[default]
        Ok = "ok",
        /// Somebody should look at it.
        Warning = "warning",
        /// Somebody must look at it.
        Critical = "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_its_name() {
        for status in Status::ALL {
            assert_eq!(status.name().parse(), Ok(status));
        }
        assert!("bad".parse::<Status>().unwrap_err().to_string().contains("ok, warning, critical"));
    }
}
