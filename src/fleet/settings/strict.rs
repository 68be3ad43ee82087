//! JSON that every reader understands alike (RFC 7493): no key twice in one object, no number that is stored
//! as another.

use std::collections::HashSet;

use super::SettingsError;

/// Looks at a text that is JSON already.
///
/// # Errors
/// [`SettingsError::Syntax`] with the place of the first key that its object has already, or of the first
/// number that would be changed.
pub fn check(text: &str) -> Result<(), SettingsError> {
    let mut scan = Scan { text, at: 0, open: Vec::new() };
    while let Some(byte) = text.as_bytes().get(scan.at) {
        match byte {
            b'{' => scan.open.push(Some(HashSet::new())),
            b'[' => scan.open.push(None),
            b'}' | b']' => {
                scan.open.pop();
            }
            b'"' => {
                scan.string()?;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                scan.number()?;
                continue;
            }
            _ => {}
        }
        scan.at += 1;
    }
    Ok(())
}

struct Scan<'t> {
    text: &'t str,
    at: usize,
    /// The keys of each object around the place, from the outermost; `None`: an array.
    open: Vec<Option<HashSet<String>>>,
}

impl Scan<'_> {
    fn string(&mut self) -> Result<(), SettingsError> {
        let (bytes, start) = (self.text.as_bytes(), self.at);
        self.at += 1;
        while let Some(byte) = bytes.get(self.at).filter(|byte| **byte != b'"') {
            self.at += if *byte == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        // A key is followed by a colon, and by nothing else.
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.trim_start().starts_with(':') {
            return Ok(());
        }
        let quoted = self.text.get(start..self.at).unwrap_or_default();
        let key: String = serde_json::from_str(quoted).unwrap_or_default();
        let keys = self.open.last_mut().and_then(Option::as_mut);
        if keys.is_none_or(|keys| keys.insert(key.clone())) {
            return Ok(());
        }
        Err(self.error(start, format!("the key {key:?} is there already: which of the two counts?")))
    }

    fn number(&mut self) -> Result<(), SettingsError> {
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        self.at += bytes[start..].iter().take_while(is_part).count();
        let text = self.text.get(start..self.at).unwrap_or_default();
        let is_whole = !text.contains(['.', 'e', 'E']);
        if is_whole && text.parse::<i64>().is_err() && text.parse::<u64>().is_err() {
            let reason = format!(
                "the number {text} does not fit into 64 bits, and readers of JSON would change it: write it as a text (\"{text}\")"
            );
            return Err(self.error(start, reason));
        }
        Ok(())
    }

    fn error(&self, at: usize, reason: String) -> SettingsError {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        SettingsError::Syntax { line, column: 1 + at - line_start, reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_that_is_there_twice_and_a_number_that_would_change_are_found_where_they_stand() {
        let error = |text: &str| check(text).unwrap_err().to_string();
        assert_eq!(
            error("{\"a\": 1,\n \"b\": {\"c\": 2, \"c\": 3}}"),
            "line 2, column 16: the key \"c\" is there already: which of the two counts?"
        );
        assert!(
            error("{\"a\": 1, \"\\u0061\": 2}").starts_with("line 1, column 10: the key \"a\""),
            "however it is written"
        );
        let large = error("{\n\"id\": 18446744073709551616}");
        assert!(
            large.starts_with("line 2, column 7: the number 18446744073709551616 does not fit"),
            "{large}"
        );
        assert!(error("[-9223372036854775809]").starts_with("line 1, column 2:"));
    }

    #[test]
    fn what_is_kept_as_it_is_passes() {
        for text in [
            "{\"a\": {\"a\": [{\"a\": 1}, {\"a\": 2}]}, \"b\": \"a\", \"c\": \"\\\"a\\\":\"}",
            "[18446744073709551615, -9223372036854775808, 1e300, 0.1, -0]",
            "{\"a\" : \"x: {\", \"b\":\"a\"}",
            "{}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at_without_panic(text in "[\\[\\]{}:,\"\\\\ a0-9.eE\\n-]{0,100}|\\PC{0,50}") {
            let _ = check(&text);
        }
    }
}
