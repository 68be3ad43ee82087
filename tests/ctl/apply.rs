//! A fleet that is kept in files.

use std::path::Path;

use crate::kit::admin::AdminServer;
use crate::kit::run_device::offer;
use muster::wire::artifact::ArtifactUse;
use muster::wire::id::ArtifactHash;
use muster::wire::settings::Declaration;
use serde_json::Value;

const SHOPS: &str = r#"
[[group]]
path = "/shops/berlin"
interval_seconds = 900
keep_connected = "on"

[[tag]]
name = "kiosks"
rule = "name:kiosk-*"

[[policy]]
group = "/shops"
application = "kiosk"
locks = ["screen.url"]
settings = { screen = { url = "https://a.example", lines = 3 } }
"#;

const TASKS: &str = r#"
[[view]]
name = "silent"
where = "seen:>7d"

[[task]]
name = "nightly"
application = "kiosk"
kind = "restart"
targets = { group = "/shops" }
schedule = "cron 0 3 * * *"
settings = { force = true }
"#;

fn write(directory: &Path, name: &str, text: &str) {
    let file = directory.join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

#[test]
fn what_files_say_is_made_once_changed_where_it_differs_and_removed_when_asked() {
    let (server, fleet) = (AdminServer::start(), tempfile::tempdir().unwrap());
    write(fleet.path(), "shops.toml", SHOPS);
    write(fleet.path(), "more/tasks.toml", TASKS);
    write(fleet.path(), ".git/config.toml", "[[nonsense]]");
    write(fleet.path(), "README.md", "no TOML");
    let directory = fleet.path().to_str().unwrap();
    let device = server.enrol("kiosk-1");
    let declaration = Declaration { takes_settings: true, ..offer("kiosk", "restart", ArtifactUse::None) };
    server.declare(device, declaration);
    server.done(&["group", "create", "/shops"]);
    server.done(&["device", "set", "kiosk-1", "--group", "/shops"]);

    let shown = server.done(&["apply", "-f", directory, "--dry-run"]);
    let lines: Vec<_> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(
        lines,
        [
            "+ group /shops/berlin",
            "+ view silent",
            "+ tag kiosks",
            "+ policy kiosk on /shops",
            "+ task nightly",
            "5 changes would be made; nothing was changed"
        ]
    );
    assert!(shown.contains("    screen.url = \"https://a.example\"\n"), "{shown}");
    assert_eq!(server.json(&["policy", "list"]), serde_json::json!([]));

    write(fleet.path(), "unknown.toml", "[[policy]]\ngroup = '/'\napplication = 'none'\nsettings = {}\n");
    let said = server.ctl(&["apply", "-f", directory]);
    assert!(said.code == 1 && said.err.contains("policy none on /: "), "{}", said.err);
    assert!(said.err.contains("(4 changes made before that)"), "{}", said.err);
    std::fs::remove_file(fleet.path().join("unknown.toml")).unwrap();
    assert!(server.done(&["apply", "-f", directory]).ends_with("\n1 change made\n"), "it goes on");
    let policy = server.json(&["policy", "show", "--group", "/shops", "--application", "kiosk"]);
    assert_eq!(
        (&policy["settings"]["screen"]["lines"], &policy["locks"][0]),
        (&3.into(), &"screen.url".into())
    );
    assert_eq!(server.json(&["tag", "list"])[0]["rule"], "name:kiosk-*");
    assert_eq!(server.json(&["task", "list"])[0]["name"], "nightly");
    assert_eq!(server.done(&["apply", "-f", directory]), "the server has all that the files say\n");

    // Somebody changes the files, somebody else the server.
    let shops = SHOPS.replace("lines = 3", "rows = 4").replace("900", "600");
    let shops = shops.replace("locks = [\"screen.url\"]", "drift = \"report\"\nlocks = [\"screen.rows\"]");
    write(fleet.path(), "shops.toml", &shops);
    write(fleet.path(), "more/tasks.toml", &TASKS.replace("force = true", "force = false"));
    server.done(&["view", "save", "old", "seen:>30d"]);
    server.done(&["tag", "rule", "kiosks", "name:screen-*"]);
    let made = server.done(&["apply", "-f", directory]);
    let expected = "~ group /shops/berlin
    interval_seconds: 900 -> 600
~ tag kiosks
    rule: \"name:screen-*\" -> \"name:kiosk-*\"
~ policy kiosk on /shops
    screen.lines: 3 -> nothing
    screen.rows = 4
    locks: screen.rows
    drift: \"report\"
~ task nightly
    settings.force: true -> false
4 changes made; not in the files, and left alone: 1 thing (--prune removes that)
";
    assert_eq!(made, expected);
    let policy = server.json(&["policy", "show", "--group", "/shops", "--application", "kiosk"]);
    assert_eq!((&policy["locks"], &policy["drift"]), (&serde_json::json!(["screen.rows"]), &"report".into()));
    // A lock alone is a change, too.
    write(fleet.path(), "shops.toml", &shops.replace("screen.rows\"]", "screen.url\"]"));
    let made = server.done(&["apply", "-f", directory]);
    assert!(made.starts_with("~ policy kiosk on /shops\n    locks: screen.url\n1 change made; "), "{made}");
    let tasks = server.json(&["task", "list"]);
    let mut states: Vec<_> =
        tasks.as_array().unwrap().iter().map(|task| task["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["active", "cancelled"], "the new one takes its place");

    let pruned = server.json(&["apply", "-f", directory, "--prune"]);
    assert_eq!(
        pruned,
        serde_json::json!([{"action": "remove", "kind": "view", "name": "old", "details": []}])
    );
    assert_eq!(server.json(&["view", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_wrong_file_is_named_with_its_line_and_nothing_is_changed() {
    let (server, fleet) = (AdminServer::start(), tempfile::tempdir().unwrap());
    let directory = fleet.path().to_str().unwrap();
    let refused = |text: &str| {
        write(fleet.path(), "b.toml", text);
        let said = server.refused(2, &["apply", "-f", directory]);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    assert!(server.refused(2, &["apply", "-f", directory]).contains("has no file whose name ends in .toml"));
    write(fleet.path(), "a.toml", SHOPS);
    for (text, what) in [
        ("[[group]]\npath = 7\n", "b.toml:2: invalid type: integer"),
        ("[[group]]\nname = \"/x\"\n", "b.toml:2: unknown field `name`"),
        ("[[tag]]\nname = \"kiosks\"\nrule = \"os:debian\"\n", "tag kiosks is in"),
        ("[[view]]\nname = \"x\"\nwhere = \"colour:red\"\n", "view x: "),
        (
            "[[policy]]\ngroup = \"/\"\napplication = \"a\"\nsettings = { since = 2026-01-01 }\n",
            "a date stands in quotes",
        ),
        (
            "[[policy]]\ngroup = \"/\"\napplication = \"a\"\nlocks = [\"b\"]\nsettings = { c = 1 }\n",
            "policy a on /: ",
        ),
        ("[[task]]\napplication = \"a\"\nkind = \"b\"\ntargets = \"all\"\n", "has no name"),
    ] {
        let said = refused(text);
        assert!(said.contains(what) && said.contains("b.toml"), "{said}");
    }
    assert_eq!(server.json(&["group", "list"]).as_array().unwrap().len(), 1, "the root alone");
}

#[test]
fn a_task_of_the_files_comes_with_an_artifact_that_the_server_has_by_then() {
    let (server, fleet) = (AdminServer::start(), tempfile::tempdir().unwrap());
    let directory = fleet.path().to_str().unwrap();
    server.declare(server.enrol("kiosk-1"), offer("kiosk", "flash", ArtifactUse::Any));
    let write_task = |artifact: &str| {
        let text =
            "[[task]]\nname = \"firmware\"\napplication = \"kiosk\"\nkind = \"flash\"\ntargets = \"all\"\n";
        write(fleet.path(), "task.toml", &format!("{text}{artifact}"));
    };
    let refused = |code: i32, why: &str| {
        let said = server.refused(code, &["apply", "-f", directory]);
        assert!(said.contains(why), "{said}");
    };
    let add = |content: &str| server.done(&["artifact", "add", &server.file("x", content)]).trim().to_owned();
    let tasks = |state: &str| {
        let all = server.json(&["task", "list"]);
        let is = |task: &&Value| task["state"] == state;
        all.as_array().unwrap().iter().filter(is).map(|task| task["artifact"].clone()).collect::<Vec<_>>()
    };
    write_task("");
    refused(1, "'flash' needs an artifact, and none was named (0 changes made before that)");
    write_task("artifact = \"firmware.bin\"\n");
    refused(2, "task.toml:1: ");
    let first = add("first");
    write_task(&format!("artifact = \"{first}\"\n"));
    assert_eq!(server.done(&["apply", "-f", directory]), "+ task firmware\n1 change made\n");
    assert_eq!(tasks("active"), [first.as_str()]);
    assert!(server.done(&["apply", "-f", directory]).starts_with("the server has all"));

    // Another one, which nobody has added yet: the task that is there stays.
    let second = ArtifactHash::of(b"second").to_string();
    write_task(&format!("artifact = \"{second}\"\n"));
    refused(1, "add it first");
    assert_eq!(tasks("active"), [first.as_str()]);
    assert_eq!(add("second"), second);
    let made = server.done(&["apply", "-f", directory]);
    let expected = format!("~ task firmware\n    artifact: \"{first}\" -> \"{second}\"\n1 change made\n");
    assert_eq!(made, expected);
    assert_eq!((tasks("active"), tasks("cancelled")), (vec![second.into()], vec![first.into()]));
}
