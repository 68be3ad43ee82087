#![no_main]
//! Filters as administrators write them: an error points into the text, and a quoted text is a term.
use libfuzzer_sys::fuzz_target;
use muster::fleet::filter::{Filter, quoted};

fuzz_target!(|text: &str| {
    match text.parse::<Filter>() {
        Ok(filter) => assert_eq!(filter.to_string(), text),
        Err(error) => {
            assert!(error.at <= text.chars().count(), "{error}");
            assert!(error.pointing(text).ends_with('^'));
        }
    }
    if !text.is_empty() && text.len() < 1_000 {
        assert!(quoted(text).parse::<Filter>().is_ok());
    }
});
