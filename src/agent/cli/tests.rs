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
        assert!(help.contains("--data"), "{help}");
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
fn bad_usage_names_what_is_allowed() {
    let error = parse("muster-agent emit --application a --severity bad --kind k m").unwrap_err();
    assert!(error.contains("info, warning, error or critical"), "{error}");
    let error = parse("muster-agent emit --application a --severity info --kind k m --field x").unwrap_err();
    assert!(error.contains("NAME=VALUE"), "{error}");
}
