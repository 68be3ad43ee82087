use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Arguments, String> {
    Arguments::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_has_examples_and_takes_a_data_directory() {
    for command in Arguments::command().get_subcommands_mut() {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Examples:"), "{help}");
        // A service has its data where its unit says.
        assert!(help.contains("--data") || help.contains("--service-manager"), "{help}");
    }
}

#[test]
fn an_emit_is_read_whole() {
    let line = "muster-agent emit --application shop --severity error --kind order.lost gone --field id=7 --field eq=a=b";
    let Command::Emit(emit) = parse(line).unwrap().command else { panic!("not an emit") };
    assert_eq!(emit.severity, crate::wire::event::Severity::Error);
    assert_eq!(emit.fields, [("id".to_owned(), "7".into()), ("eq".to_owned(), "a=b".into())]);
}

#[test]
fn an_emit_that_is_no_text_is_sent_mended_and_marked() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt as _;
    let start = "muster-agent emit --application shop --severity error --kind order.lost";
    let line = |more: &[&[u8]]| {
        let more = more.iter().map(|bytes| OsStr::from_bytes(bytes).to_owned());
        let arguments = start.split(' ').map(OsString::from).chain(more);
        let Command::Emit(emit) = Arguments::try_parse_from(arguments).unwrap().command else { panic!() };
        control::event_line(&emit)
    };
    let odd = line(&[b"--field", b"file=caf\xe9", b"gone: \xff"]);
    assert_eq!((&odd["message"], &odd["fields"]["file"]), (&"gone: \u{fffd}".into(), &"caf\u{fffd}".into()));
    assert_eq!(odd["fields"]["muster.mended"], "bytes that are not UTF-8 were replaced");
    let long = line(&["x".repeat(10_000).as_bytes()]);
    assert_eq!(long["fields"]["muster.mended"], "the message was cut, it had 10000 bytes");
    assert_eq!(line(&[b"gone"])["fields"], serde_json::json!({}));
}

#[test]
fn bad_usage_names_what_is_allowed() {
    let error = parse("muster-agent emit --application a --severity bad --kind k m").unwrap_err();
    assert!(error.contains("info, warning, error or critical"), "{error}");
    let error = parse("muster-agent emit --application a --severity info --kind k m --field x").unwrap_err();
    assert!(error.contains("NAME=VALUE"), "{error}");
}
