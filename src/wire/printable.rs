//! Text for terminals: characters that are not seen, or that command whatever shows them, as escapes.
//!
//! Names, messages and output come from devices. A control character moves the cursor or renames a window
//! (ECMA-48), a bidirectional control puts text in an order that it does not have (Unicode Standard Annex 9),
//! an invisible character makes two names look the same. Names have none of them; anything else is stored as
//! it came and escaped here before it is shown.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use super::api::CLAIMED_PREFIX;
use super::id::DeviceId;
use super::limits::NAME_BYTES_MAX;

/// Characters that are not seen, or change how their neighbours are seen; without those that
/// [`char::is_control`] knows. Variation selectors, which choose between two looks of a visible character,
/// are not among them.
const HIDDEN: [RangeInclusive<char>; 12] = [
    '\u{ad}'..='\u{ad}',       // soft hyphen
    '\u{61c}'..='\u{61c}',     // Arabic letter mark
    '\u{115f}'..='\u{1160}',   // fillers of Hangul
    '\u{180e}'..='\u{180e}',   // Mongolian vowel separator
    '\u{200b}'..='\u{200f}',   // zero width: space, joiners; left-to-right and right-to-left marks
    '\u{2028}'..='\u{202e}',   // separators of lines and paragraphs; bidirectional embeddings and overrides
    '\u{2060}'..='\u{206f}',   // word joiner, invisible operators, bidirectional isolates
    '\u{3164}'..='\u{3164}',   // filler of Hangul
    '\u{feff}'..='\u{feff}',   // zero width no-break space, the byte order mark
    '\u{ffa0}'..='\u{ffa0}',   // filler of Hangul, half width
    '\u{fff9}'..='\u{fffb}',   // interlinear annotations
    '\u{e0000}'..='\u{e007f}', // tags
];

/// Whether the character must not reach a terminal as it is.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    let is_printable_ascii = matches!(character, ' '..='~');
    !is_printable_ascii && (character.is_control() || HIDDEN.iter().any(|range| range.contains(&character)))
}

/// Whether the text can be a name of anything: 1 to 255 bytes, all of it to be seen, no blank at either end.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.trim() == text && !text.contains(is_hidden)
}

/// Whether the text can be the name of a device: a name that no command takes for a device's id, and that no
/// reader of a list takes for the server.
#[must_use]
pub fn is_device_name(text: &str) -> bool {
    is_name(text) && text.parse::<DeviceId>().is_err() && !is_reserved(text)
}

/// Stands in lists where the name of a device would, for the server itself.
pub const SERVER_PLACE: &str = "(server)";

/// Whether the text says in lists what no device may be called: anything in brackets, as [`SERVER_PLACE`] is,
/// and what begins as a name that a device has no right to ([`CLAIMED_PREFIX`]).
///
/// [`CLAIMED_PREFIX`]: super::api::CLAIMED_PREFIX
#[must_use]
pub fn is_reserved(text: &str) -> bool {
    let is_bracketed = text.starts_with('(') && text.ends_with(')');
    let has_mark =
        text.get(..CLAIMED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(CLAIMED_PREFIX));
    is_bracketed || has_mark
}

/// The text in one line, with escapes (`\n`, `\u{202e}`) for what is hidden.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden, |character, out| out.extend(character.escape_default()))
}

/// The text with its ends of lines and tabs, and escapes for everything else that is hidden.
#[must_use]
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    let is_escaped = |character| !matches!(character, '\n' | '\t') && is_hidden(character);
    escape(text, is_escaped, |character, out| out.extend(character.escape_default()))
}

/// A JSON document that means the same, with the escapes of RFC 8259 section 7 for what is hidden.
#[must_use]
pub fn escaped_json(document: &str) -> Cow<'_, str> {
    // Within texts a writer has escaped what is below a blank; outside of them there is nothing but ASCII.
    let is_escaped = |character| character > ' ' && is_hidden(character);
    escape(document, is_escaped, |character, out| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string can't fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// The value as JSON in one line that a terminal can be given.
///
/// # Errors
/// When the value can't be JSON, such as a map with keys that are no texts.
pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|document| escaped_json(&document).into_owned())
}

/// The value as indented JSON that a terminal can be given.
///
/// # Errors
/// When the value can't be JSON, such as a map with keys that are no texts.
pub fn json_pretty<T: serde::Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|document| escaped_json(&document).into_owned())
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(&is_escaped) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for character in text[first..].chars() {
        match is_escaped(character) {
            true => write(character, &mut out),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Characters that the field names: C0 and C1 controls, bidirectional controls, zero width.
    const NAMED: &str = "\0\u{1b}\r\u{7f}\u{85}\u{9b}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\
        \u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}";

    /// Texts in which hidden characters are many.
    fn texts() -> impl Strategy<Value = String> {
        let ranges = HIDDEN.to_vec();
        let hidden = prop::sample::select(ranges)
            .prop_flat_map(|range| prop::char::range(*range.start(), *range.end()));
        let character = prop_oneof![
            any::<char>(),
            hidden,
            prop::sample::select(NAMED.chars().collect::<Vec<_>>()),
            prop::sample::select(vec!['a', '"', '\\', '\n', '\t', ' ']),
        ];
        prop::collection::vec(character, 0..40).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in texts()) {
            prop_assert!(!escaped(&text).contains(is_hidden));
            prop_assert!(!escaped_lines(&text).replace(['\n', '\t'], "").contains(is_hidden));
            prop_assert_eq!(escaped_lines(&text).lines().count(), text.lines().count());
            prop_assert!(!json(&text).unwrap().contains(is_hidden));
            let kept = |text: &str| text.chars().filter(|c| !is_hidden(*c)).collect::<String>();
            let is_plain = !text.contains(is_hidden);
            prop_assert_eq!(escaped(&text) == text.as_str(), is_plain);
            prop_assert!(is_plain || escaped(&text).len() > kept(&text).len());
            let once = escaped(&text);
            prop_assert_eq!(escaped(&once), &*once, "escapes are not escaped");
        }

        #[test]
        fn json_has_the_same_value(text in texts(), key in texts()) {
            let value = serde_json::json!({ key: [text, 1.5, null] });
            for document in [json(&value).unwrap(), json_pretty(&value).unwrap()] {
                prop_assert!(!document.replace('\n', "").contains(is_hidden));
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&document).unwrap(), &value);
            }
        }

        #[test]
        fn a_name_is_shown_as_it_is(text in texts()) {
            if is_name(&text) {
                prop_assert_eq!(escaped(&text), text.as_str());
            }
            prop_assert!(!text.contains(is_hidden) || !is_name(&text));
        }

        #[test]
        fn an_id_is_no_name_of_a_device(id in any::<u64>()) {
            let id = DeviceId(id).to_string();
            prop_assert!(!is_device_name(&id) && !is_device_name(&id.to_uppercase()) && is_name(&id));
            let longer = format!("x{id}");
            prop_assert!(is_device_name(&id[1..]) && is_device_name(&longer));
        }
    }

    #[test]
    fn no_device_is_called_what_stands_for_the_server() {
        for reserved in [SERVER_PLACE, "(removed)", "device:shop", "Device:"] {
            assert!(is_name(reserved) && !is_device_name(reserved), "{reserved}");
        }
        for name in ["kiosk (old)", "(old) kiosk", "device-7", "muster", "server", "é"] {
            assert!(is_device_name(name), "{name}");
        }
    }

    #[test]
    fn what_the_field_names_is_hidden_and_what_people_write_is_not() {
        assert!(NAMED.chars().all(is_hidden));
        for text in ["kiosk-17", "Kasse Süd", "لوحة", "קופה", "レジ", "☕\u{fe0f}", "a\u{301}"] {
            assert!(is_name(text), "{text}");
            assert_eq!(escaped(text), text);
        }
        assert_eq!(escaped("a\u{1b}[31mb\r\n\t\u{202e}c"), r"a\u{1b}[31mb\r\n\t\u{202e}c");
        assert_eq!(escaped_lines("a\u{1b}\r\n\tb"), "a\\u{1b}\\r\n\tb");
        assert_eq!(json("\u{e0041}\u{7f}\u{200b}\n").unwrap(), r#""\udb40\udc41\u007f\u200b\n""#);
    }
}
