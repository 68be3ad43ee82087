#![no_main]
//! The configuration: any text is read or refused in one line.
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use muster::server::config::Config;

fuzz_target!(|text: &str| {
    if let Err(error) = Config::parse(text, Path::new("musterd.toml")) {
        assert!(!error.to_string().is_empty());
    }
});
