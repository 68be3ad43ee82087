#![no_main]
//! Join tokens: what is read is written as the same token.
use libfuzzer_sys::fuzz_target;
use muster::wire::token::JoinToken;

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<JoinToken>() {
        assert_eq!(token.to_string().parse::<JoinToken>().expect("what we wrote"), token);
    }
});
