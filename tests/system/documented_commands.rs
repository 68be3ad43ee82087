//! Every command line of README and handbook, run as it stands on a system of its own: in a new root, with
//! `sudo` and `systemctl` of the test, the repository's units and configurations, and the programs that were
//! just built.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::skipped;
/// Commands that are not run here: how they begin, and why not.
const NOT_RUN: [(&str, &str); 6] = [
    ("cargo build", "the programs of this build are installed"),
    ("cargo run --release -- demo", "continuous integration runs it"),
    ("cargo nextest run", "this is a test"),
    ("cc -I tools/ffi", "tools/ffi/tests/examples.rs builds and runs it"),
    ("muster-load", "thousands of devices: tools/load/tests/load_tool.rs runs each command with a few"),
    ("tools/side-by-side", "needs three other servers, and minutes"),
];

/// The chapter that says how to do by hand what a package does. Packages themselves are installed by
/// `tools/package/guest`.
const PACKAGES: &str = "src/manual/packages.rs";

/// Commands that end when somebody ends them.
const ENDLESS: [&str; 1] = ["musterctl event follow"];

/// Placeholders that a reader fills in, and the test's sources for them.
const PLACEHOLDERS: [(&str, &str); 2] =
    [("task show ID", "task show \"$ID\""), ("task cancel ID", "task cancel \"$ID\"")];

/// A command, as it stands, and where.
#[derive(Debug)]
struct Line {
    place: String,
    text: String,
}

/// The fenced blocks of one language: number of the first line, and the text.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.strip_prefix("//! ").or_else(|| line.strip_prefix("//!")).unwrap_or(line);
        match &mut open {
            Some(block) if line.starts_with("```") => {
                found.push(block.clone());
                open = None;
            }
            Some((_, block)) => writeln!(block, "{line}").unwrap(),
            None if line == format!("```{language}") => open = Some((number + 1, String::new())),
            None => {}
        }
    }
    found
}

/// The commands of a file, in its order; a line that ends with `\` goes on.
fn commands(file: &str) -> Vec<Line> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let mut lines = Vec::new();
    for (first, block) in blocks(&text, "sh") {
        let mut going_on: Option<Line> = None;
        for (number, line) in (first..).zip(block.lines()) {
            let mut command = going_on
                .take()
                .unwrap_or_else(|| Line { place: format!("{file}:{number}"), text: String::new() });
            command.text.push_str(line);
            if line.ends_with('\\') {
                command.text.push('\n');
                going_on = Some(command);
            } else if !command.text.trim().is_empty() {
                lines.push(command);
            }
        }
        assert!(going_on.is_none(), "{file}: a block ends with a backslash");
    }
    lines
}

/// The commands that do what the package of a program does.
fn by_hand(program: &str) -> String {
    let text = fs::read_to_string(root().join(PACKAGES)).unwrap();
    let does_it = |block: &str| {
        block.contains(&format!("{program}.service")) || block.contains(&format!("{program} install"))
    };
    let (_, block) = blocks(&text, "sh").into_iter().find(|(_, block)| does_it(block)).unwrap();
    let commands = block.lines().filter(|line| !line.starts_with("cargo build"));
    commands.collect::<Vec<_>>().join(" &&\n")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The step of the script that runs a command; `None`: it is not run.
fn step(line: &Line) -> Option<String> {
    let begins = |what: &&str| line.text.starts_with(*what);
    if NOT_RUN.iter().any(|(what, _)| begins(what)) {
        return None;
    }
    let mut text = match line.text.strip_prefix("sudo apt install ./") {
        Some(package) => by_hand(package.split('_').next().unwrap()),
        None => line.text.clone(),
    };
    for (placeholder, value) in PLACEHOLDERS {
        text = text.replace(placeholder, value);
    }
    assert!(!text.contains('…'), "{}: nobody fills this in: {text}", line.place);
    if ENDLESS.iter().any(begins) {
        text = format!("timeout 3 {text}\n[ $? -eq 124 ]");
    }
    Some(format!("begin {:?}\n{{\n{text}\n}} </dev/null >/tmp/said 2>&1 || failed\ndone_with\n", line.place))
}

/// State that the steps share, the fleet around the device of the examples, and the conditions at the end.
const PRELUDE: &str = r#"
begin() { place=$1; }
failed() { code=$?; echo "FAILED at $place with code $code:"; cat /tmp/said; tail -n 30 /tmp/*.log; exit 1; }
done_with() {
    found=$(grep -o 'muster1-[A-Za-z0-9_-]\{60,\}' /tmp/said | tail -n 1); [ -z "$found" ] || TOKEN=$found
    echo "ok $place"
}
until_true() { for _ in $(seq 600); do "$@" >/tmp/said 2>&1 && return; sleep 0.1; done; failed; }
"#;

/// Behind the first token: the files that hold tokens, another device, and another server to move to.
const FLEET: &str = r#"
begin "the rest of the fleet"
{
    echo "$TOKEN" >token
    cp target/dist/muster-agent /usr/local/bin
    other=$(musterctl token create --group /spare --json | grep -o 'muster1-[A-Za-z0-9_-]*')
    muster-agent enroll --server muster.example.org --token "$other" --name kiosk-16 --data /srv/kiosk-16 &&
    musterd run --data /srv/new --listen '[::1]:13000' >/tmp/new.log 2>&1 &
    until_true musterctl --server unix:/srv/new/admin.sock status
    musterctl --server unix:/srv/new/admin.sock token create --json | grep -o 'muster1-[A-Za-z0-9_-]*' >new-token
    until_true musterctl device show kiosk-16
} || failed
"#;

/// Before the first device is approved: some that wait, with the token that was made last.
const WAITING: &str = r#"
begin "devices wait for approval"
for name in kiosk-18 kiosk-19 booth-1 booth-2; do
    muster-agent enroll --server muster.example.org --token "$TOKEN" --name $name --data /srv/$name >/tmp/said 2>&1 || failed
done
"#;

/// Before the application's settings: its definition was written while the agent ran.
const SHOP: &str = r#"
begin "the application of the example"
mkdir -p /etc/muster/applications.d /etc/shop && cp /etc/example.toml /etc/muster/applications.d/shop.toml
until_true sh -c "musterctl device show kiosk-17 --json | grep -q '\"shop\"'"
"#;

/// Promises of the documentation about these commands beyond that they end well.
const PROMISES: &str = r#"
begin "a backup is for its owner alone"
[ "$(stat -c %a /var/backups/muster.tar)" = 600 ] || failed
begin "nothing was made by mistake"
[ ! -e muster-agent-data ] && [ ! -e muster-data ] || failed
begin "another user's program emits, though it can't read the configuration"
{
    sed -i 's|^#path = .*|path = "/run/muster-agent/agent.sock"|; s|^#mode = .*|mode = "666"|' /etc/muster/muster-agent.toml &&
    chmod 600 /etc/muster/muster-agent.toml && systemctl restart muster-agent &&
    setpriv --reuid 65534 --regid 65534 --clear-groups \
        muster-agent emit --application a --severity info --kind k "from another user" &&
    setpriv --reuid 65534 --regid 65534 --clear-groups \
        muster-agent emit --data /var/lib/muster-agent --application a --severity info --kind k "and again"
} >/tmp/said 2>&1 || failed
"#;

/// Before the last commands: a unit that is not on every device.
const SLEEPS: &str = r#"
begin "a device that sleeps"
{
    mkdir -p /etc/systemd/system/sleep.target.wants &&
    ln -s ../muster-agent-sleep.service /etc/systemd/system/sleep.target.wants
} || failed
"#;

/// When all of it was taken away again. The restored copy of the server is there still.
const LEFT: &str = r#"
begin "nothing is left of it"
{
    ! find /etc /run /usr/local /var/lib -name '*muster*' ! -path '/var/lib/muster-new*' | grep . &&
    ! grep muster /etc/passwd /etc/group /etc/shadow
} >/tmp/said 2>&1 || failed
"#;

#[test]
fn every_documented_command_does_what_it_is_there_for() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root makes a system of its own");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    prepare(directory.path());
    let script = script();
    fs::write(directory.path().join("script.sh"), &script).unwrap();
    let notify = UnixDatagram::bind(directory.path().join("run/notify")).unwrap();
    fs::set_permissions(directory.path().join("run/notify"), fs::Permissions::from_mode(0o777)).unwrap();
    let ready = directory.path().join("run/ready");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = notify.recv(&mut buffer) {
            if buffer[..length].starts_with(b"READY=1") {
                // The directory is gone at the end.
                let _ = fs::write(&ready, "");
            }
        }
    });
    let mut command = Command::new("unshare");
    command.args(["--mount", "--uts", "--net", "--ipc", "--pid", "--fork", "--kill-child", "bash"]);
    command.arg(root().join("tests/system/documented/root.sh")).arg(directory.path());
    command.arg(Path::new(env!("CARGO_BIN_EXE_musterd")).parent().unwrap()).arg(root().join("tools"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{said}");
    assert!(output.status.success() && said.ends_with("ok everything\n"), "{said}\n{error}");
}

fn script() -> String {
    let mut script = PRELUDE.to_owned();
    let mut uninstall = String::new();
    let mut files = vec!["README.md".to_owned()];
    let mut chapters: Vec<PathBuf> =
        fs::read_dir(root().join("src/manual")).unwrap().map(|entry| entry.unwrap().path()).collect();
    chapters.retain(|path| !path.ends_with(PACKAGES));
    chapters.sort();
    files.extend(chapters.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()));
    let mut run = 0;
    for file in &files {
        let mut is_end = false;
        for line in commands(file) {
            let Some(step) = step(&line) else { continue };
            run += 1;
            if line.text.contains("policy set --group /shops ") {
                script.push_str(SHOP);
            }
            if line.text.contains("device approve kiosk") {
                script.push_str(WAITING);
            }
            // From there on the file takes everything away again.
            is_end |= line.text.contains("disable --now") || line.text.contains("uninstall");
            if is_end {
                uninstall.push_str(&step);
            } else {
                script.push_str(&step);
            }
            if line.text.contains("task create") {
                script.push_str("ID=$(grep -oE '\\b[0-9a-f]{16}\\b' /tmp/said | head -n 1)\n");
            }
            if line.text.contains("token create") && !script.contains(FLEET) {
                script.push_str(FLEET);
            }
        }
    }
    assert!(run > 40, "only {run} commands were found");
    format!("{script}{PROMISES}{SLEEPS}{uninstall}{LEFT}echo 'ok everything'\n")
}

/// The files that are there before anything is installed.
fn prepare(system: &Path) {
    let put = |name: &str, text: &str| {
        let path = system.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n");
    put("etc/group", "root:x:0:\nnogroup:x:65534:\n");
    put("etc/shadow", "root:*:19000:0:99999:7:::\n");
    put("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n");
    put("etc/hosts", "127.0.0.1 localhost kiosk-17 muster.example.org\n::1 new.example.org\n");
    put(
        "etc/login.defs",
        "SYS_UID_MIN 101\nSYS_UID_MAX 999\nSYS_GID_MIN 101\nSYS_GID_MAX 999\nUSERGROUPS_ENAB yes\n",
    );
    put("run/README", "");
    for shim in ["sudo", "systemctl", "shop"] {
        let text = fs::read_to_string(root().join("tests/system/documented").join(shim)).unwrap();
        put(&format!("etc/shims/{shim}"), &text);
    }
    let chapter = fs::read_to_string(root().join("src/manual/administration.rs")).unwrap();
    let example: String = blocks(&chapter, "toml").into_iter().map(|(_, text)| text).collect();
    put("etc/example.toml", &example);
}
