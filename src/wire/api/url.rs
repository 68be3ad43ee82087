//! Addresses of the API's things, as requests have them.

use serde::Serialize;

/// `base` and one more segment, percent-encoded.
pub(crate) fn path(base: &str, segment: &str) -> String {
    let mut path = format!("{base}/");
    encode(segment, &mut path);
    path
}

/// `path` and, behind a question mark, every field of `query` that is there.
pub(crate) fn with_query<Q: Serialize>(path: &str, query: &Q) -> String {
    let mut url = path.to_owned();
    let mut separator = '?';
    // A query is a struct of texts and numbers: it becomes an object whatever is in it.
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else { return url };
    for (name, value) in fields {
        let text = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        url.push(separator);
        separator = '&';
        encode(&name, &mut url);
        url.push('=');
        encode(&text, &mut url);
    }
    url
}

/// `text`, percent-encoded.
#[cfg(feature = "console")]
pub(crate) fn encoded(text: &str) -> String {
    let mut url = String::new();
    encode(text, &mut url);
    url
}

/// Appends `text`, with everything but the unreserved characters percent-encoded (RFC 3986 section 2).
fn encode(text: &str, url: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push('%');
            url.push(char::from(HEX[usize::from(byte >> 4)]));
            url.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::DeviceQuery;

    #[test]
    fn a_query_names_what_is_there() {
        let query = DeviceQuery {
            filter: Some("group:/a b".into()),
            sort: Some("-name".parse().unwrap()),
            limit: Some(5),
            ..DeviceQuery::default()
        };
        assert_eq!(
            with_query("/v1/devices", &query),
            "/v1/devices?limit=5&sort=-name&where=group%3A%2Fa%20b"
        );
        assert_eq!(with_query("/v1/devices", &DeviceQuery::default()), "/v1/devices");
    }

    #[test]
    fn a_name_can_hold_anything() {
        assert_eq!(path("/v1/devices", "a/ü?#"), "/v1/devices/a%2F%C3%BC%3F%23");
    }
}
