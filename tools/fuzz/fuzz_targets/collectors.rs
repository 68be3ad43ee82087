#![no_main]
//! Package databases, and the versions that they name.
use libfuzzer_sys::fuzz_target;
use muster::agent::collect::{apk, dpkg, pkg, rpm};
use muster::fleet::version::{VersionExpression, compare};

fuzz_target!(|bytes: &[u8]| {
    let _ = dpkg::parse(bytes);
    let _ = apk::parse(bytes);
    let _ = rpm::parse(bytes, "x86_64");
    let _ = pkg::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<VersionExpression>().map(|expression| expression.holds_for(text));
        if let Some((a, b)) = text.split_once(' ') {
            assert_eq!(compare(a, b), compare(b, a).reverse());
        }
    }
});
