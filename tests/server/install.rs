//! The line that 'musterctl token create' prints, pasted on devices: trees of files, by the shells and the
//! fetching programs that devices have.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::administration::{Scene, write_files};
use crate::kit::{AGENT, error_of, eventually, skipped, wait_for};
use muster::wire::api::{NewApiToken, NewUser};
use muster::wire::role::Role;
use serde_json::Value;

/// Shells of devices.
const SHELLS: [&[&str]; 2] = [&["dash"], &["busybox", "ash"]];

/// A server that offers the agent for this machine, at an open port.
fn scene() -> Scene {
    scene_with(|_| String::new())
}

fn scene_with(settings: impl FnOnce(&Path) -> String) -> Scene {
    let scene = Scene::with(|directory| {
        let agents = directory.join("agents");
        fs::create_dir(&agents).unwrap();
        symlink(AGENT, agents.join(format!("muster-agent-{}", std::env::consts::ARCH))).unwrap();
        fs::write(agents.join("minisign.pub"), format!("untrusted comment: a key\n{RELEASE_KEY}\n")).unwrap();
        format!("agents = {agents:?}\n{}", settings(directory))
    });
    open(&scene);
    scene
}

/// The port opens with the first user.
fn open(scene: &Scene) {
    let user = NewUser { name: "anna".into(), role: Role::Reader, group: None, openid: false };
    scene.root().create_user(&user).unwrap();
    eventually("the port opens", || std::net::TcpStream::connect(scene.port).is_ok());
}

fn token(scene: &Scene) -> Value {
    scene.server.ctl(&["token", "create"])
}

fn line(scene: &Scene) -> String {
    let made = token(scene);
    made["install"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

fn is_missing(program: &str) -> bool {
    let is_there = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if let Err(error) = &is_there {
        skipped(format!("no {program} here: {error}"));
    }
    is_there.is_err()
}

/// The second line of a minisign.pub.
const RELEASE_KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// A device: a tree of files with systemd, a directory for what is temporary, and one of commands that are
/// found before others.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for directory in ["root/usr/lib/systemd", "tmp", "bin"] {
            fs::create_dir_all(tree.path(directory)).unwrap();
        }
        fs::write(tree.path("root/usr/lib/systemd/systemd"), "").unwrap();
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A command that is found before the one of that name.
    fn command(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, mut command: Command) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("TMPDIR", self.path("tmp")).output().unwrap()
    }

    /// Pastes a line, which goes into the tree in the place of the machine.
    fn paste(&self, line: &str, shell: &[&str], name: &str) -> Output {
        let (fetch, token) = line.strip_suffix(" sh").unwrap().split_once(" | ").unwrap();
        let root = self.path("root").display().to_string();
        let mut command = Command::new("dash");
        command
            .arg("-c")
            .arg(format!("{fetch} | {token} {} -s -- --root '{root}' --name {name}", shell.join(" ")));
        self.run(command)
    }

    /// Gives a script to a shell.
    fn script(&self, script: &str, token: &str) -> Output {
        let file = self.path("script");
        fs::write(&file, script).unwrap();
        let mut command = Command::new("dash");
        command.args(["-s", "--", "--root"]).arg(self.path("root")).args(["--name", "kiosk"]);
        command.env("MUSTER_TOKEN", token).stdin(fs::File::open(file).unwrap());
        self.run(command)
    }

    /// Files of the device, and all that is temporary.
    fn all(&self) -> Vec<String> {
        let mut find = Command::new("find");
        find.args(["root", "tmp", "!", "-type", "d", "-o", "-path", "tmp*"]).current_dir(self.0.path());
        let found = find.output().unwrap();
        let mut all: Vec<_> = String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
        all.sort();
        all
    }
}

/// The script, as the line fetches it.
fn script(line: &str) -> String {
    let fetched = Command::new("sh").arg("-c").arg(line.split(" | ").next().unwrap()).output().unwrap();
    assert!(fetched.status.success(), "{line}: {}", error_of(&fetched));
    String::from_utf8(fetched.stdout).unwrap()
}

#[test]
fn the_line_installs_and_enrols_a_device_with_each_shell() {
    if is_missing("curl") {
        return;
    }
    let scene = scene();
    for (shell, name) in SHELLS.into_iter().zip(["kiosk-1", "kiosk-2"]) {
        if is_missing(shell[0]) {
            continue;
        }
        let tree = Tree::new();
        let done = tree.paste(&line(&scene), shell, name);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{said}{}", error_of(&done));
        let pinned = fs::read(tree.path("root/var/lib/muster-agent/release-key")).unwrap();
        assert!(String::from_utf8_lossy(&pinned).contains(RELEASE_KEY), "the key of releases is pinned");
        assert!(said.starts_with(&format!("enrolled as '{name}'")), "{said}");
        assert!(!said.contains("start the agent"), "{said}");
        let all = tree.all();
        for path in ["root/usr/local/bin/muster-agent", "root/etc/systemd/system/muster-agent.service"] {
            assert!(all.contains(&path.to_owned()), "{all:?}");
        }
        assert_eq!(all.last().unwrap(), "tmp", "what was temporary is gone");
        let listed = scene.server.ctl(&["device", "show", name]);
        assert_eq!(listed["name"], name, "{listed}");
        // Once more: an upgrade, and no second device.
        let again = tree.paste(&line(&scene), shell, "other");
        assert!(!again.status.success());
        assert!(error_of(&again).contains("is enrolled already"), "{}", error_of(&again));
        assert_eq!(tree.all(), all);
    }
}

#[test]
fn a_server_with_another_key_is_not_listened_to() {
    if is_missing("curl") {
        return;
    }
    let (scene, other) = (scene(), scene());
    let (tree, good) = (Tree::new(), line(&scene));
    let before = tree.all();
    let port = |scene: &Scene| format!("https://{}/", scene.port);
    let wrong_pins = good.replace("sha256//", "sha256//AAAA");
    for bad in [good.replace(&port(&scene), &port(&other)), wrong_pins.clone()] {
        assert_ne!(bad, good);
        let refused = tree.paste(&bad, SHELLS[0], "kiosk");
        assert!(error_of(&refused).contains("pinned public key"), "{}", error_of(&refused));
        assert_eq!(tree.all(), before);
    }
    // The same of the agent, which the script fetches, with either program.
    let token = token(&scene)["token"].as_str().unwrap().to_owned();
    let script = script(&good).replace("sha256//", "sha256//AAAA");
    let refused = tree.script(&script, &token);
    assert!(error_of(&refused).contains("can't be fetched"), "{}", error_of(&refused));
    assert_eq!(tree.all(), before);
    assert_eq!(scene.server.ctl(&["device", "list"]), serde_json::json!([]));
}

#[test]
fn wget_will_do_where_it_can_pin() {
    if is_missing("curl") || is_missing("wget") {
        return;
    }
    let (scene, tree) = (scene(), Tree::new());
    let (good, token) = (script(&line(&scene)), token(&scene)["token"].as_str().unwrap().to_owned());
    // No other command is found.
    let find = |name: &str| {
        let path = std::env::var("PATH").unwrap();
        path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.exists()).unwrap()
    };
    let commands = ["wget", "grep", "sed", "id", "uname", "mktemp", "sha256sum", "rm", "chmod", "dash"];
    commands.iter().for_each(|name| symlink(find(name), tree.path("bin").join(name)).unwrap());
    let run = |script: &str| {
        fs::write(tree.path("script"), script).unwrap();
        let mut command = Command::new(tree.path("bin/dash"));
        command.args(["-s", "--", "--root"]).arg(tree.path("root")).env("MUSTER_TOKEN", &token);
        command.env("PATH", tree.path("bin")).env("TMPDIR", tree.path("tmp"));
        command.stdin(fs::File::open(tree.path("script")).unwrap()).output().unwrap()
    };
    let before = tree.all();
    let refused = run(&good.replace("sha256//", "sha256//AAAA"));
    assert!(error_of(&refused).contains("can't be fetched"), "{}", error_of(&refused));
    assert_eq!(tree.all(), before);
    let done = run(&good);
    assert!(done.status.success(), "{}", error_of(&done));
    fs::remove_file(tree.path("bin/wget")).unwrap();
    let nothing = run(&good);
    assert!(error_of(&nothing).contains("curl is needed, or GNU wget"), "{}", error_of(&nothing));
}

#[test]
fn a_script_that_was_cut_off_does_nothing() {
    if is_missing("curl") {
        return;
    }
    let (scene, tree) = (scene(), Tree::new());
    let (whole, token) = (script(&line(&scene)), token(&scene)["token"].as_str().unwrap().to_owned());
    // The first commands that it has.
    let mark = tree.path("mark").display().to_string();
    for command in ["id", "uname", "curl", "mktemp"] {
        tree.command(command, &format!("touch '{mark}'; exit 1"));
    }
    let before = tree.all();
    let end = whole.trim_end().len();
    let ends_of_lines = whole.match_indices('\n').map(|(at, _)| at + 1);
    let near_the_end = end - 40..end;
    let cuts: Vec<_> = ends_of_lines.chain(near_the_end).filter(|at| *at < end).collect();
    assert!(cuts.len() > 100, "{}", cuts.len());
    for at in cuts {
        tree.script(&whole[..at], &token);
        assert!(!tree.path("mark").exists(), "{}", &whole[..at]);
    }
    assert_eq!(tree.all(), before);
    tree.script(&whole, &token);
    assert!(tree.path("mark").exists(), "whole, it does something");
}

#[test]
fn what_goes_wrong_leaves_nothing_and_says_what_to_do() {
    if is_missing("curl") {
        return;
    }
    let scene = scene();
    let (good, made) = (script(&line(&scene)), token(&scene));
    let text = made["token"].as_str().unwrap();
    let refused = |commands: &[(&str, &str)], token: &str, why: &str| {
        let tree = Tree::new();
        commands.iter().for_each(|(name, text)| tree.command(name, text));
        let before = tree.all();
        let output = tree.script(&good, token);
        assert!(!output.status.success(), "{why}");
        assert!(error_of(&output).contains(why), "{}", error_of(&output));
        assert_eq!(tree.all(), before, "{why}");
    };
    let other = r#"while [ "$1" != -o ]; do shift; done; echo other >"$2""#;
    refused(&[("curl", other)], text, "its SHA-256 is another");
    refused(
        &[("uname", "case $1 in -m) echo mips ;; *) echo Linux ;; esac")],
        text,
        "no agent for mips (it has: ",
    );
    refused(&[("uname", "echo FreeBSD")], text, "no agent for FreeBSD");
    refused(&[], "", "there is no token");
    refused(&[], "muster1-abc", "mistyped");
    scene.server.ctl(&["token", "revoke", made["id"].as_str().unwrap()]);
    refused(&[], text, "revoked");
    // One that was installed before stays installed, with its configuration.
    let tree = Tree::new();
    let mut install = Command::new(AGENT);
    assert!(install.args(["install", "--root"]).arg(tree.path("root")).output().unwrap().status.success());
    let before = tree.all();
    assert_eq!(tree.script(&good, text).status.code(), Some(1));
    assert_eq!(tree.all(), before);
    // The agents change between script and agent: the hash is gone.
    let agents = scene.directory.path().join("agents");
    for file in fs::read_dir(&agents).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    refused(&[], text, "can't be fetched");
    let hint = token(&scene);
    assert_eq!(hint["install"], Value::Null);
    assert!(hint["install_hint"].as_str().unwrap().contains("put static agents into"), "{hint}");
}

#[test]
fn a_line_outlives_a_rotation_that_was_prepared_before() {
    if is_missing("curl") {
        return;
    }
    let scene = scene();
    let before = line(&scene);
    scene.server.ctl(&["certificate", "prepare"]);
    let prepared = line(&scene);
    scene.server.ctl(&["certificate", "switch"]);
    let tree = Tree::new();
    let refused = tree.paste(&before, SHELLS[0], "kiosk-1");
    assert!(error_of(&refused).contains("pinned public key"), "{}", error_of(&refused));
    let done = tree.paste(&prepared, SHELLS[0], "kiosk-2");
    assert!(done.status.success(), "{}", error_of(&done));
}

/// As programs with a library of TLS that has no Ed25519: they are shown the certificate of browsers.
#[test]
fn the_line_pins_each_key_that_the_port_shows() {
    if is_missing("curl") || is_missing("openssl") {
        return;
    }
    let scene = scene();
    let shown = |scene: &Scene, algorithms: &str| {
        let command = format!(
            "openssl s_client -connect {} -sigalgs {algorithms} </dev/null 2>/dev/null | openssl x509 -noout -pubkey | \
             openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
            scene.port
        );
        let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let pinned = line(&scene);
    let (own, of_browsers) = (shown(&scene, "ed25519"), shown(&scene, "ECDSA+SHA256"));
    assert_ne!(own, of_browsers);
    for key in [own, of_browsers] {
        assert!(key.len() == 44 && pinned.contains(&format!("sha256//{key}")), "{key}: {pinned}");
    }
    let scene = scene_with(|directory| {
        write_files(directory);
        let (certificate, key) = (directory.join("port.pem"), directory.join("port.key"));
        format!("certificate = {certificate:?}\nkey = {key:?}\n")
    });
    let of_files = shown(&scene, "ECDSA+SHA256");
    assert!(line(&scene).contains(&format!("sha256//{of_files}")));
    assert!(script(&line(&scene)).starts_with("#!/bin/sh\n"));
}

#[test]
fn the_console_shows_the_same_line_by_the_name_that_it_is_reached_by() {
    let scene = scene();
    let new = NewApiToken { name: "x".into(), role: Role::Administrator, group: None, ttl_seconds: None };
    let key = scene.root().create_api_token(&new).unwrap().token;
    let port = scene.port.port();
    let answer = scene.say(&format!(
        "POST /access HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: 11\r\n\r\naction=join"
    ));
    let shown = answer.split("<pre id=\"line\"").nth(1).unwrap_or_else(|| panic!("{answer}"));
    assert!(shown.contains(&format!("https://localhost:{port}/install")), "{shown}");
    assert!(shown.contains("| MUSTER_TOKEN=muster1-") && shown.contains("data-copy=\"line\""), "{shown}");
}

fn get(scene: &Scene, path: &str) -> String {
    scene.say(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", scene.port))
}

#[test]
fn agents_are_there_by_their_hash_and_nothing_else_is() {
    let scene = Scene::with(|directory| {
        let agents = directory.join("agents");
        fs::create_dir(&agents).unwrap();
        fs::write(agents.join("muster-agent-armv7"), "an agent").unwrap();
        fs::write(agents.join("muster-agent-mips"), "of a kind that is not known").unwrap();
        fs::create_dir(agents.join("muster-agent-x86_64")).unwrap();
        format!("agents = {agents:?}\n")
    });
    let made = token(&scene);
    assert!(made["install_hint"].as_str().unwrap().contains("musterctl user create"), "{made}");
    open(&scene);
    let script = get(&scene, "/install");
    assert!(script.starts_with("HTTP/1.1 200 ") && script.contains("cache-control: no-store"), "{script}");
    assert!(script.contains("(it has: armv7)"), "{script}");
    let device = scene.server.address.port();
    assert!(script.contains(&format!("server='127.0.0.1:{device}'")), "{script}");
    let named = script.split("sha256=").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(named.len(), 64, "{named}");
    let agent = get(&scene, &format!("/install/agent/{named}"));
    assert!(agent.ends_with("\r\n\r\nan agent") && agent.contains("content-length: 8"), "{agent}");
    assert!(agent.contains("cache-control: public, max-age=31536000, immutable"), "{agent}");
    let zeros = "0".repeat(64);
    let names = [zeros.as_str(), "muster-agent-armv7", "..%2fmusterd.toml", "%2e%2e", "%00", "%ff"];
    for name in names {
        let answer = get(&scene, &format!("/install/agent/{name}"));
        assert!(
            answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "),
            "{name}: {answer}"
        );
    }
    for path in ["/install/", "/install/agent", "/install/agent/a/b", "/install/../v1/status", "/installs"] {
        let answer = get(&scene, path);
        assert!(
            answer.starts_with("HTTP/1.1 401 ") || answer.starts_with("HTTP/1.1 404 "),
            "{path}: {answer}"
        );
    }
    // The name by which the server is asked becomes a part of the script.
    for host in ["a'b", "a b", "$(id)", "a;b", "a\"b", &"a".repeat(300)] {
        let answer =
            scene.say(&format!("GET /install HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
    }
    // Another content has another name.
    fs::write(scene.directory.path().join("agents/muster-agent-armv7"), "another").unwrap();
    assert!(get(&scene, &format!("/install/agent/{named}")).starts_with("HTTP/1.1 404 "));
    assert!(!get(&scene, "/install").contains(named));
}

#[test]
fn requests_and_downloads_of_one_address_are_bounded() {
    if is_missing("curl") {
        return;
    }
    let scene = scene();
    let script = script(&line(&scene));
    let named = script.split("sha256=").nth(1).unwrap().split(' ').next().unwrap();
    let url = format!("https://{}/install/agent/{named}", scene.port);
    let mut slow: Vec<_> = (0..8)
        .map(|number| {
            let file = scene.directory.path().join(format!("slow-{number}"));
            let mut curl = Command::new("curl");
            curl.args(["-sk", "--limit-rate", "1k", "-o"]).arg(&file).arg(&url);
            (curl.spawn().unwrap(), file)
        })
        .collect();
    for (_, file) in &slow {
        wait_for("the download begins", || file.metadata().ok().filter(|file| file.len() > 0));
    }
    let code = |url: &str| {
        let output =
            Command::new("curl").args(["-sk", "-o", "/dev/null", "-w", "%{http_code}\n", url]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(code(&url), "503\n");
    assert_eq!(code(&format!("https://{}/install", scene.port)), "200\n");
    for (curl, _) in &mut slow {
        curl.kill().unwrap();
        curl.wait().unwrap();
    }
    eventually("there is a place again", || code(&url) == "200\n");
    let codes = code(&format!("https://{}/install?[1-300]", scene.port));
    assert!(codes.contains("503"), "{codes}");
    assert!(scene.server.status().administration.is_some(), "administrators have their own places");
}
