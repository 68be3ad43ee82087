#![no_main]
//! Settings as an administrator writes them: what is taken as strict JSON says nothing twice and changes no
//! number.
use libfuzzer_sys::fuzz_target;
use muster::fleet::settings::strict;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    if strict::check(text).is_ok() {
        // Every key was counted once, so as many colons stand outside of strings as there are keys.
        assert_eq!(colons_outside_strings(text), keys(&value), "a key was lost");
    }
});

fn colons_outside_strings(text: &str) -> usize {
    let (mut colons, mut is_inside, mut is_escaped) = (0, false, false);
    for character in text.chars() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_inside,
            '"' => is_inside = !is_inside,
            ':' if !is_inside => colons += 1,
            _ => {}
        }
    }
    colons
}

fn keys(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(keys).sum::<usize>(),
        Value::Array(items) => items.iter().map(keys).sum(),
        _ => 0,
    }
}
