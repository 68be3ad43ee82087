#![no_main]
//! Texts of devices on a terminal: whatever they are, nothing hidden reaches it, and what is shown says the
//! same.
use libfuzzer_sys::fuzz_target;
use muster::wire::event::is_server_name;
use muster::wire::id::DeviceId;
use muster::wire::printable;

fuzz_target!(|text: &str| {
    let line = printable::escaped(text);
    assert!(!line.contains(printable::is_hidden), "one line, of what is seen alone");
    assert_eq!(printable::escaped(&line), line, "there is nothing more to escape");
    let lines = printable::escaped_lines(text);
    assert!(
        !lines.contains(|character| !matches!(character, '\n' | '\t') && printable::is_hidden(character))
    );
    let json = printable::json(text).expect("a text is JSON");
    assert!(!json.contains(printable::is_hidden));
    assert_eq!(serde_json::from_str::<String>(&json).expect("what we wrote"), text, "it means the same");
    if printable::is_name(text) {
        assert_eq!(line, text, "a name is shown as it is");
    }
    if printable::is_device_name(text) {
        assert!(printable::is_name(text) && text.parse::<DeviceId>().is_err());
    }
    let _ = is_server_name(text);
});
