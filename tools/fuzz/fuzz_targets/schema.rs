#![no_main]
//! Schemas that devices declare, and what is held against them: two lines of JSON.
use libfuzzer_sys::fuzz_target;
use muster::fleet::schema::Schema;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((declared, value)) = text.split_once('\n') else { return };
    if let (Ok(schema), Ok(value)) = (Schema::parse(declared), serde_json::from_str(value))
        && schema.check(&value).is_ok()
    {
        assert!(schema.check_partial(&value).is_ok(), "what passes whole passes in part");
    }
});
