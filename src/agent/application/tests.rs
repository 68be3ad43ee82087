use std::path::Path;
use std::time::Duration;

use super::check::{judge_unit, section};
use super::*;
use crate::wire::inventory::Application;
use crate::wire::section::Condition;
use crate::wire::time::WallTime;

fn parse(text: &str) -> Result<Definition, String> {
    definition::parse(text, Path::new("shop.toml"))
}

fn place_of(adapter: Option<SettingsAdapter>) -> SettingsPlace {
    let Some(SettingsAdapter::File(place)) = adapter else { panic!("no file") };
    *place
}

fn shell(script: &str) -> Observed {
    let arguments = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let probe = Probe::Command(Program { arguments, timeout: Duration::from_secs(60) });
    check(&Definition::new("shop".into(), "shop".into(), probe))
}

fn pid(content: &str) -> Condition {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    std::fs::write(&file, content).unwrap();
    check(&Definition::new("a".into(), "a".into(), Probe::PidFile(file))).condition
}

#[test]
fn a_definition_says_how_to_tell() {
    let unit = parse("name = \"nginx\"\n[condition]\nsystemd_unit = \"nginx.service\"").unwrap();
    assert_eq!(unit.probe, Probe::SystemdUnit("nginx.service".into()));
    assert_eq!(unit.package, "nginx");
    let text = "name = \"shop\"\npackage = \"shop-server\"\n[condition]\ncommand = [\"shopctl\", \"status\"]\ntimeout_seconds = 3";
    let command = parse(text).unwrap();
    assert_eq!(command.package, "shop-server");
    assert!(matches!(command.probe, Probe::Command(program) if program.timeout == Duration::from_secs(3)));
}

#[test]
fn a_wrong_definition_is_named_with_line_and_what_is_allowed() {
    let head = "name = \"a\"\n[condition]\n";
    let cases = [
        (
            format!("{head}pid_file = \"/x\"\n[setings]\n"),
            "shop.toml:4: setings is not known: did you mean settings?",
            "allowed here: name, package, condition",
        ),
        (format!("{head}unit = \"x\"\n"), "shop.toml:3: condition.unit is not known", "systemd_unit"),
        (head.to_owned(), "shop.toml", "must have one of 'systemd_unit', 'pid_file', 'command'"),
        (format!("{head}pid_file = \"/x\"\ncommand = [\"x\"]\n"), "shop.toml", "must have one of"),
        (format!("{head}command = [\"x\"]\ntimeout_seconds = 61\n"), "shop.toml", "1 to 60 are"),
        (format!("{head}systemd_unit = \"--version\"\n"), "shop.toml", "not the name of a unit"),
        (
            "name = \"muster-agent\"\n[condition]\npid_file = \"/x\"".to_owned(),
            "shop.toml:1: name",
            "not 'muster-agent'",
        ),
        (
            "name = \"Muster\"\n[condition]\npid_file = \"/x\"".to_owned(),
            "shop.toml:1: name",
            "'muster', which is the server",
        ),
    ];
    for (text, place, allowed) in cases {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(place) && error.contains(allowed) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_directory_is_read_and_its_wrong_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("b.toml", "name = \"b\"\n[condition]\npid_file = \"/b\"");
    write("a.toml", "name = \"z\"\n[condition]\npid_file = \"/z\"");
    write("c.toml", "name = \"b\"\n[condition]\npid_file = \"/c\"");
    write("d.toml", "nonsense");
    write("readme.txt", "not looked at");
    let definitions = Definitions::read(directory.path());
    assert_eq!(definitions.applications.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["b", "z"]);
    assert_eq!(definitions.problems.len(), 2, "{:?}", definitions.problems);
    assert_eq!(Definitions::read(&directory.path().join("nowhere")), Definitions::default());
}

#[test]
fn an_exit_code_says_it_as_an_init_script_does() {
    assert_eq!(shell("exit 0").condition, Condition::Running);
    assert_eq!(
        shell("echo down; exit 3"),
        Observed { condition: Condition::Stopped, detail: "down".into(), version: None }
    );
    assert_eq!(shell("exit 4").condition, Condition::Unknown);
    assert_eq!(shell("echo a; echo no disk; exit 1").detail, "code 1: no disk");
    assert_eq!(shell("kill -9 $$").condition, Condition::Failed);
}

#[test]
fn a_pid_file_must_name_a_process_that_is_there() {
    assert_eq!(pid(&std::process::id().to_string()), Condition::Running);
    assert_eq!(pid("2147483646\n"), Condition::Failed);
    for nonsense in ["", "-1", "0", "x", "99999999999999"] {
        assert_eq!(pid(nonsense), Condition::Unknown, "{nonsense}");
    }
}

#[test]
fn systemd_is_understood() {
    let say = |load: &str, active: &str| {
        judge_unit(&format!("LoadState={load}\nActiveState={active}\nSubState=x\nResult=exit-code\n"))
            .condition
    };
    assert_eq!(say("loaded", "active"), Condition::Running);
    assert_eq!(say("loaded", "inactive"), Condition::Stopped);
    assert_eq!(say("loaded", "failed"), Condition::Failed);
    assert_eq!(say("not-found", "inactive"), Condition::NotInstalled);
    assert_eq!(judge_unit("").condition, Condition::Unknown);
}

#[test]
fn since_is_kept_while_a_condition_lasts_and_the_agent_is_one_of_them() {
    let definition = parse("name = \"shop\"\n[condition]\npid_file = \"/x\"").unwrap();
    let installed = [Application { name: "shop".into(), version: "1.2".into(), publisher: String::new() }];
    let running = Observed { condition: Condition::Running, detail: String::new(), version: None };
    let stopped = Observed { condition: Condition::Stopped, detail: String::new(), version: None };
    let say = |observed: &Observed, now, before: &[_]| {
        section(&[(definition.clone(), observed.clone())], &installed, WallTime(1), WallTime(now), before)
    };
    let first = say(&running, 10, &[]);
    assert_eq!(first[0].application, "muster-agent");
    assert_eq!((first[1].since, first[1].version.as_str()), (WallTime(10), "1.2"));
    assert_eq!(say(&running, 20, &first), first);
    assert_eq!(say(&stopped, 30, &first)[1].since, WallTime(30));
}

#[test]
fn the_shipped_files_are_right() {
    let nginx = parse(include_str!("../../../tools/applications.d/nginx.toml")).unwrap();
    assert_eq!(place_of(nginx.settings).rollback.unwrap().arguments, ["nginx", "-s", "reload"]);
    let shop = parse(include_str!("../../../tools/applications.d/shop.toml.example")).unwrap();
    let place = place_of(shop.settings);
    assert_eq!((place.mode, place.format), (Some(0o640), render::Format::Json));
    assert!(shop.version.is_some() && shop.statistics.is_some());
    assert_eq!(
        shop.tasks[0].invocation("{\"level\":3}", None).unwrap().command,
        ["shop", "backup", "--level=3"]
    );
}

#[test]
fn wrong_settings_statistics_and_versions_are_named_with_what_is_allowed() {
    let head = "name = \"a\"\n[condition]\npid_file = \"/x\"\n";
    let settings = format!("{head}[settings]\nfile = \"/etc/a\"\nformat = \"json\"\n");
    let cases = [
        (format!("{settings}apply = []\n"), "[settings]: apply must be a program"),
        (format!("{settings}apply = [\"x\"]\ntimeout_seconds = 601\n"), "1 to 600 are"),
        (format!("{settings}rollback = [\"x\"]\n"), "'rollback' belongs to 'apply'"),
        (format!("{settings}separator = \":\"\n"), "belong to the format \"key_value\""),
        (
            format!("{settings}mode = \"rw\"\n"),
            "shop.toml:7: settings.mode = \"rw\" is not allowed: permission bits in octal",
        ),
        (format!("{settings}schema = {{ type = \"thing\" }}\n"), "[settings]: schema"),
        (format!("{settings}chek = [\"x\"]\n"), "shop.toml:7: settings.chek is not known"),
        (format!("{head}[settings]\nfile = \"etc/a\"\nformat = \"json\"\n"), "shop.toml:5: settings.file"),
        (
            format!("{head}[settings]\nfile = \"/etc/a\"\nformat = \"xml\"\n"),
            "settings.format = \"xml\" is not allowed: \"json\", \"toml\", \"key_value\"",
        ),
        (format!("{head}[settings]\nfile = \"/a\"\nformat = \"key_value\"\nseparator = \"\"\n"), "1 to 8"),
        (format!("{head}[statistics]\n"), "one of 'command', 'file'"),
        (format!("{head}[version]\ncommand = [\"x\"]\ntimeout_seconds = 0\n"), "1 to 60 are"),
        (format!("package = \"b\"\n{head}[version]\ncommand = [\"x\"]\n"), "'package' and [version]"),
    ];
    for (text, expected) in cases {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_version_is_found_in_what_a_program_says() {
    for (output, expected) in [
        ("nginx version: nginx/1.22.1\n", "1.22.1"),
        ("OpenSSL 3.0.14 4 Jun 2024", "3.0.14"),
        ("shop v2.1, of 2026", "2.1"),
        ("no number", ""),
    ] {
        assert_eq!(check::version_in(output), expected);
    }
}
