//! Events that break a limit are kept: cut to what travels, and marked.

use super::Event;
use crate::wire::bounded::clip;
use crate::wire::limits::{EVENT_BYTES_MAX, EVENT_FIELDS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};

/// The field that says what was mended of an event.
pub const MENDED_FIELD: &str = "muster.mended";

/// Text of the mark for bytes that are no text.
pub const NOT_UTF8: &str = "bytes that are not UTF-8 were replaced";

/// Longest mark.
const MARK_BYTES_MAX: usize = 400;

impl Event {
    /// The event within all limits: what is too long is cut, fields beyond the limit are left out, and a
    /// field [`MENDED_FIELD`] says so. An event that breaks none is what it was. An empty application or kind
    /// stays.
    #[must_use]
    pub fn mended(mut self) -> Self {
        let mut notes = Vec::new();
        cut("the application", &mut self.application, NAME_BYTES_MAX, &mut notes);
        cut("the kind", &mut self.kind, NAME_BYTES_MAX, &mut notes);
        cut("the message", &mut self.message, TEXT_BYTES_MAX, &mut notes);
        let is_mark = |(name, _): &(String, String)| name == MENDED_FIELD;
        let before = self.fields.iter().position(is_mark).map(|at| self.fields.remove(at).1);
        for (name, value) in &mut self.fields {
            cut("the name of a field", name, NAME_BYTES_MAX, &mut notes);
            cut("the value of a field", value, TEXT_BYTES_MAX, &mut notes);
        }
        // One is for the mark, when there is one.
        let is_whole = notes.is_empty() && before.is_none() && self.bytes() <= EVENT_BYTES_MAX;
        let most = EVENT_FIELDS_MAX - usize::from(!is_whole || self.fields.len() > EVENT_FIELDS_MAX);
        if self.fields.len() > most {
            notes.push(format!("{} fields were left out", self.fields.len() - most));
            // The last one stays: it says who the event is from, where that is not the device's owner.
            let last = self.fields.len() - 1;
            self.fields.drain(most - 1..last);
        }
        let mut has_cut = false;
        while self.bytes() + MARK_BYTES_MAX + MENDED_FIELD.len() + 8 > EVENT_BYTES_MAX
            && (self.bytes() > EVENT_BYTES_MAX || has_cut || !notes.is_empty() || before.is_some())
        {
            has_cut = true;
            let values = self.fields.iter_mut().map(|(_, value)| value);
            let Some(longest) = values.chain([&mut self.message]).max_by_key(|text| text.len()) else {
                break;
            };
            if longest.is_empty() {
                // Names alone are too much.
                self.fields.remove(0);
            } else {
                let half = clip(longest, longest.len() / 2).len();
                longest.truncate(half);
            }
        }
        if has_cut {
            notes.push(format!("texts were cut, the whole had more than {EVENT_BYTES_MAX} bytes"));
        }
        let notes: Vec<String> = before.into_iter().chain(notes).collect();
        if !notes.is_empty() {
            let mark = notes.join("; ");
            self.fields.push((MENDED_FIELD.to_owned(), clip(&mark, MARK_BYTES_MAX).to_owned()));
        }
        self
    }

    fn bytes(&self) -> usize {
        minicbor::to_vec(self).map_or(usize::MAX, |bytes| bytes.len())
    }
}

fn cut(what: &str, text: &mut String, most: usize, notes: &mut Vec<String>) {
    if text.len() > most {
        notes.push(format!("{what} was cut, it had {} bytes", text.len()));
        text.truncate(clip(text, most).len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::event::Severity;
    use crate::wire::time::WallTime;

    fn event(message: String, fields: Vec<(String, String)>) -> Event {
        Event {
            severity: Severity::Error,
            application: "shop".into(),
            kind: "test".into(),
            message,
            occurred_at: WallTime(1),
            fields,
        }
    }

    fn mark(event: &Event) -> &str {
        event.fields.iter().find(|(name, _)| name == MENDED_FIELD).map_or("", |(_, mark)| mark)
    }

    #[test]
    fn what_is_within_the_limits_is_left_alone() {
        let fields: Vec<_> = (0..EVENT_FIELDS_MAX).map(|n| (format!("f{n}"), "x".repeat(100))).collect();
        for event in [event("gone".into(), Vec::new()), event("x".repeat(TEXT_BYTES_MAX), fields)] {
            assert_eq!(event.clone().mended(), event);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = event("é".repeat(5_000), Vec::new()).mended();
        assert_eq!(long.message, "é".repeat(TEXT_BYTES_MAX / 2));
        assert_eq!(mark(&long), "the message was cut, it had 10000 bytes");
        let many = event("m".into(), (0..40).map(|n| (format!("f{n}"), "v".into())).collect()).mended();
        assert_eq!((many.fields.len(), mark(&many)), (EVENT_FIELDS_MAX, "9 fields were left out"));
        let wide = event("m".into(), (0..4).map(|n| (format!("f{n}"), "v".repeat(4_000))).collect()).mended();
        assert!(mark(&wide).contains("more than 8192 bytes"), "{}", mark(&wide));
        assert_eq!(wide.fields.len(), 5, "every field is there");
        let told = event("x".repeat(5_000), vec![(MENDED_FIELD.into(), NOT_UTF8.into())]).mended();
        assert_eq!(mark(&told), format!("{NOT_UTF8}; the message was cut, it had 5000 bytes"));
    }

    proptest! {
        #[test]
        fn whatever_it_was_it_travels(
            message in "\\PC{0,3000}",
            sizes in prop::collection::vec((0..400_usize, 0..6_000_usize), 0..40),
        ) {
            let fields = sizes.into_iter().map(|(name, value)| ("n".repeat(name), "v".repeat(value))).collect();
            let mended = event(message, fields).mended();
            let bytes = mended.to_bytes();
            prop_assert!(bytes.is_ok(), "{:?}", bytes);
            prop_assert_eq!(mended.clone().mended().to_bytes().is_ok(), true);
        }
    }
}
