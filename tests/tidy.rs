//! A test over the sources: the conventions that matter, each proved able to fail on a planted snippet.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/lives.rs"]
mod lives;
#[allow(dead_code, reason = "no test is skipped here")]
#[path = "kit/skip.rs"]
mod skip;
#[path = "tidy/words.rs"]
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A module names only layers below its own.
const LAYERS: [&[&str]; 7] = [
    &["wire"],
    &["fleet", "machine", "record_layer", "sync"],
    &["concurrency", "logging", "memory", "file_locks", "paths", "configuration", "service_manager"],
    &["journal", "store", "reactor"],
    &["admin", "agent", "client"],
    &["server"],
    &["musterd"],
];

/// Modules that hold prose only.
const OUTSIDE_THE_LAYERS: [&str; 1] = ["manual"];

/// Longest file. Longer ones are split by responsibility.
const FILE_LINES_MAX: usize = 600;

/// The pure layers are told bytes, time and randomness; these words would make them ask.
const IMPURE: [(&str, &str); 15] = [
    ("Instant::now", "the clock is an argument"),
    ("SystemTime", "the clock is an argument"),
    ("std::thread", "the pure layers have no threads"),
    ("log::", "the pure layers answer with commands, the caller logs"),
    ("println!", "the pure layers do not print"),
    ("eprintln!", "the pure layers do not print"),
    ("std::fs", "the pure layers have no files"),
    ("File::open", "the pure layers have no files"),
    ("TcpStream", "the pure layers have no sockets"),
    ("UdpSocket", "the pure layers have no sockets"),
    ("aws_lc_rs::rand", "randomness is an argument"),
    ("std::env", "the pure layers have no environment"),
    ("TimeZone::system", "a time zone is an argument"),
    ("TimeZone::try_system", "a time zone is an argument"),
    ("TimeZone::get", "a time zone is an argument: its data is in files"),
];

/// Words that would put something unfinished into the source.
const UNFINISHED: [&str; 4] = ["todo!(", "unimplemented!(", "#[ignore", "dbg!("];

/// A source file: its path from the package's root, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn planted(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The folder or file right under `src/`: `wire` for `src/wire/id.rs`.
    fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// The lines of code, numbered from 1, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(index, line)| {
            let line = line.split(" // ").next().unwrap_or_default();
            (!line.trim_start().starts_with("//")).then_some((index + 1, line))
        })
    }

    fn wrong(&self, line: usize, why: &str) -> String {
        format!("{}:{line}: {why}", self.path)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            // Build output of the fuzz crate, when somebody ran it by hand.
            if !path.ends_with("target") {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            sources.push(Source { path: name, text: fs::read_to_string(&path).unwrap() });
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Applies a rule to every source of the package; fails with all that is wrong.
fn hold(folders: &[&str], rule: impl Fn(&Source) -> Vec<String>) {
    let sources = sources(folders);
    assert!(sources.len() > 10, "only {} sources found", sources.len());
    let wrong: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Whether `word` stands in `line` with no letter, digit or underscore before it.
fn names(line: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_part))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The top-level modules that a line names: `crate::wire::…`, and those in `use crate::{wire, machine::…}`.
fn named_modules(line: &str) -> Vec<&str> {
    let mut named = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let parts: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split(", ").collect(),
            None => vec![rest],
        };
        named.extend(parts.iter().map(|part| {
            let end = part.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            &part[..end.unwrap_or(part.len())]
        }));
    }
    named
}

fn layers_rule(source: &Source) -> Vec<String> {
    let Some(own) = source.module().filter(|module| !["lib", "bin"].contains(module)) else {
        return Vec::new();
    };
    if OUTSIDE_THE_LAYERS.contains(&own) {
        return Vec::new();
    }
    let Some(own_layer) = layer(own) else {
        return vec![source.wrong(1, &format!("'{own}' stands on no layer: give it one in tests/tidy.rs"))];
    };
    let mut wrong = Vec::new();
    for (number, line) in source.code() {
        for other in named_modules(line) {
            if other != own && layer(other).is_some_and(|layer| layer >= own_layer) {
                let why = format!("'{own}' (layer {own_layer}) names '{other}', which is not below it");
                wrong.push(source.wrong(number, &why));
            }
        }
    }
    wrong
}

fn unsafe_rule(source: &Source) -> Vec<String> {
    const REGION: &str = "src/journal/region.rs";
    // One call of the C library that nothing wraps.
    const MEMORY: &str = "src/memory.rs";
    let mut wrong = Vec::new();
    let forbids = source.code().any(|(_, line)| line.contains("#![forbid(unsafe_code)]"));
    // The journal folder can't forbid it as a whole, because of its one file; all of its other files do.
    let must_forbid = match source.module() {
        None | Some("lib" | "bin") => false,
        Some("journal") => {
            source.path != REGION && source.path != "src/journal/mod.rs" && source.path != "src/journal.rs"
        }
        Some(module) => source.path == format!("src/{module}/mod.rs"),
    };
    if must_forbid && !forbids {
        wrong.push(source.wrong(1, "must say #![forbid(unsafe_code)]"));
    }
    if source.path != REGION && source.path != MEMORY {
        for (number, line) in source.code() {
            if names(line, "unsafe ") || names(line, "allow(unsafe_code") || names(line, "expect(unsafe_code")
            {
                wrong.push(source.wrong(
                    number,
                    "unsafe code belongs in src/journal/region.rs alone, and one call in src/memory.rs",
                ));
            }
        }
    }
    wrong
}

fn purity_rule(source: &Source) -> Vec<String> {
    if !source.module().is_some_and(|module| ["wire", "fleet", "machine", "record_layer"].contains(&module)) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (number, line) in source.code() {
        for (word, why) in IMPURE {
            if names(line, word) {
                wrong.push(source.wrong(number, &format!("{word}: {why}")));
            }
        }
    }
    wrong
}

fn rustls_rule(source: &Source) -> Vec<String> {
    let may = ["src/reactor/channel", "src/reactor/tls"].iter().any(|start| source.path.starts_with(start));
    if may || !source.path.starts_with("src/") {
        return Vec::new();
    }
    let lines = source.code().filter(|(_, line)| names(line, "rustls::") || names(line, "use rustls"));
    lines
        .map(|(number, _)| source.wrong(number, "rustls is known only to the channel in src/reactor"))
        .collect()
}

/// The agent reads files that less privileged users may have put there: all of them through one opener, which
/// neither waits for a FIFO nor reads without a limit.
fn opener_rule(source: &Source) -> Vec<String> {
    const OPENER: &str = "src/agent/open.rs";
    if !source.path.starts_with("src/agent/") || source.path == OPENER || source.path.ends_with("tests.rs") {
        return Vec::new();
    }
    let shipped = source.code().take_while(|(_, line)| !line.contains("#[cfg(test)]"));
    let words = ["File::open(", "fs::read(", "fs::read_to_string("];
    shipped
        .filter(|(_, line)| words.iter().any(|word| names(line, word)))
        .map(|(number, _)| source.wrong(number, &format!("files are opened by {OPENER}")))
        .collect()
}

fn length_rule(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let why = format!("{lines} lines, at most {FILE_LINES_MAX} are allowed: split it by responsibility");
    (lines > FILE_LINES_MAX).then(|| source.wrong(lines, &why)).into_iter().collect()
}

fn unfinished_rule(source: &Source) -> Vec<String> {
    if source.path == "tests/tidy.rs" {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (number, line) in source.code() {
        for word in UNFINISHED {
            if names(line, word) {
                wrong.push(source.wrong(number, &format!("{word}… leaves something unfinished")));
            }
        }
    }
    wrong
}

/// Files that a `Cargo.toml` names must be there, and every bench must be named (benches are not found by
/// themselves).
fn manifest_rule(manifest: &str, exists: impl Fn(&str) -> bool, benches: &[String]) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    let list = |key: &str| manifest.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let field =
        |entry: &toml::Value, key: &str| entry.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let mut wrong = Vec::new();
    let mut named = Vec::new();
    for (kind, folder) in [("bin", "src/bin"), ("bench", "benches"), ("test", "tests")] {
        for entry in list(kind) {
            let name = field(&entry, "name").unwrap_or_default();
            let path = field(&entry, "path").unwrap_or_else(|| format!("{folder}/{name}.rs"));
            if !exists(&path) {
                wrong.push(format!("Cargo.toml names {kind} '{name}', but {path} is not there"));
            }
            named.push(path);
        }
    }
    let forgotten = benches.iter().filter(|bench| !named.contains(bench));
    wrong.extend(forgotten.map(|bench| format!("{bench} is not in Cargo.toml, so nobody runs it")));
    wrong
}

/// The members that the root's `Cargo.toml` names are there, and every package under `tools/` is one of them
/// or a workspace of its own.
fn members_rule(root_manifest: &str, packages: &[(String, String)]) -> Vec<String> {
    let manifest: toml::Table = root_manifest.parse().unwrap();
    let members = members(&manifest);
    let is_package = |member: &String| packages.iter().any(|(path, _)| path == member);
    let missing = members.iter().filter(|member| *member != "." && !is_package(member));
    let mut wrong: Vec<String> = missing.map(|member| format!("the member {member} is not there")).collect();
    for (path, text) in packages {
        let package: toml::Table = text.parse().unwrap();
        if !members.contains(path) && !package.contains_key("workspace") {
            wrong.push(format!("{path} is no member of the workspace, so nobody builds it"));
        }
    }
    let built: Option<&str> = manifest["workspace"].get("default-members").and_then(|list| {
        list.as_array()?.as_slice().split_first().filter(|(_, more)| more.is_empty())?.0.as_str()
    });
    if built != Some(".") {
        wrong.push("default-members is not [\".\"]: who builds the daemon would build the tools".into());
    }
    wrong
}

fn members(manifest: &toml::Table) -> Vec<String> {
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

/// Settings that the agent's unit must have for its runs: they outlive it, and become the users that their
/// definitions name.
fn agent_unit_rule(unit: &str) -> Vec<String> {
    let said = |key: &str| -> Vec<&str> {
        let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.flat_map(str::split_whitespace).collect()
    };
    let mut wrong = Vec::new();
    for capability in ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"] {
        if !said("CapabilityBoundingSet").contains(&capability) {
            wrong.push(format!("without {capability} no run has a user of its own"));
        }
    }
    if said("KillMode") != ["process"] {
        wrong.push("any KillMode but 'process' kills the supervisors of runs with the agent".into());
    }
    if said("OOMPolicy") != ["continue"] {
        wrong.push("without OOMPolicy=continue a run that wants too much memory ends the agent".into());
    }
    if said("PrivateTmp") != ["no"] {
        wrong.push("PrivateTmp is emptied at a restart of the agent, under the runs that outlive it".into());
    }
    wrong
}

#[test]
fn a_module_names_only_layers_below_its_own() {
    let planted = |path: &str, text: &str| layers_rule(&Source::planted(path, text)).len();
    assert_eq!(planted("src/wire/id.rs", "use crate::machine::device_state::DeviceState;"), 1, "upwards");
    assert_eq!(planted("src/journal/log.rs", "fn f() { crate::store::open() }"), 1, "sideways");
    assert_eq!(planted("src/journal/log.rs", "use crate::{concurrency, reactor::Link};"), 1, "in a list");
    assert_eq!(planted("src/attic/mod.rs", ""), 1, "on no layer");
    assert_eq!(planted("src/store/mod.rs", "use crate::wire::id::DeviceId; // crate::server"), 0);
    assert_eq!(planted("src/server/mod.rs", "use crate::{admin, store};"), 0);
    hold(&["src"], layers_rule);
}

#[test]
fn unsafe_code_is_in_one_file() {
    let planted = |path: &str, text: &str| unsafe_rule(&Source::planted(path, text)).len();
    assert_eq!(planted("src/store/mod.rs", "pub mod x;"), 1, "not forbidden");
    assert_eq!(planted("src/journal/reader.rs", "pub struct Reader;"), 1, "not forbidden");
    assert_eq!(planted("src/reactor/slab.rs", "    unsafe { x() }"), 1);
    assert_eq!(planted("src/reactor/slab.rs", "#[expect(unsafe_code)]"), 1);
    assert_eq!(planted("src/journal/region.rs", "    unsafe { x() }"), 0);
    hold(
        &["src", "tests"],
        |source| {
            if source.path == "tests/tidy.rs" { Vec::new() } else { unsafe_rule(source) }
        },
    );
}

#[test]
fn the_pure_layers_ask_nobody() {
    let planted = |path: &str, text: &str| purity_rule(&Source::planted(path, text)).len();
    for (word, _) in IMPURE {
        assert_eq!(planted("src/machine/x.rs", &format!("    let x = {word}();")), 1, "{word}");
    }
    assert_eq!(planted("src/machine/x.rs", "    catalog::open() // log::info"), 0);
    assert_eq!(planted("src/reactor/clock.rs", "Instant::now()"), 0);
    hold(&["src"], purity_rule);
}

#[test]
fn only_the_channel_knows_the_tls_library() {
    let planted = |path: &str, text: &str| rustls_rule(&Source::planted(path, text)).len();
    assert_eq!(planted("src/server/start.rs", "use rustls::ServerConfig;"), 1);
    assert_eq!(planted("src/agent/run.rs", "    let x = rustls::ClientConfig::builder();"), 1);
    assert_eq!(planted("src/reactor/channel.rs", "use rustls::ServerConnection;"), 0);
    hold(&["src"], rustls_rule);
}

#[test]
fn the_agent_opens_files_in_one_way() {
    let planted = |path: &str, text: &str| opener_rule(&Source::planted(path, text)).len();
    assert_eq!(planted("src/agent/x.rs", "    let file = File::open(path)?;\n    std::fs::read(path)?;"), 2);
    assert_eq!(planted("src/agent/x.rs", "fs::read_dir(path)?;\n#[cfg(test)]\nmod tests { fs::read(x) }"), 0);
    assert_eq!(planted("src/server/x.rs", "File::open(path)?;"), 0);
    hold(&["src"], opener_rule);
}

#[test]
fn files_are_short_enough_to_be_read() {
    let text = "\n".repeat(FILE_LINES_MAX + 1);
    assert_eq!(length_rule(&Source::planted("src/x.rs", &text)).len(), 1);
    assert_eq!(length_rule(&Source::planted("src/x.rs", &text[1..])).len(), 0);
    hold(&["src", "tests", "benches", "tools"], length_rule);
}

#[test]
fn nothing_is_left_unfinished() {
    for word in UNFINISHED {
        assert_eq!(unfinished_rule(&Source::planted("src/x.rs", &format!("    {word}…"))).len(), 1, "{word}");
    }
    hold(&["src", "tests", "benches", "tools"], unfinished_rule);
}

#[test]
fn what_the_manifest_names_is_there_and_no_bench_is_forgotten() {
    let planted = "[[bin]]\nname = \"ghost\"\npath = \"src/bin/ghost.rs\"\n[[bench]]\nname = \"wire\"";
    let wrong = manifest_rule(planted, |path| path == "benches/wire.rs", &["benches/lost.rs".into()]);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    for member in members(&fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap()) {
        let member = root().join(member);
        let manifest = fs::read_to_string(member.join("Cargo.toml")).unwrap();
        let benches: Vec<String> = fs::read_dir(member.join("benches"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .map(|path| format!("benches/{}", path.file_name().unwrap().to_string_lossy()))
            .collect();
        let wrong = manifest_rule(&manifest, |path| member.join(path).exists(), &benches);
        assert!(wrong.is_empty(), "{}:\n{}\n", member.display(), wrong.join("\n"));
    }
}

#[test]
fn tools_are_members_that_only_those_build_who_ask_for_them() {
    let package = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let packages = [package("tools/a", ""), package("tools/b", ""), package("tools/c", "[workspace]")];
    let planted = "[workspace]\nmembers = [\".\", \"tools/a\", \"tools/ghost\"]";
    let wrong = members_rule(planted, &packages);
    assert_eq!(wrong.len(), 3, "a ghost, b is forgotten, all are built: {wrong:?}");
    let folders = fs::read_dir(root().join("tools")).unwrap().map(|entry| entry.unwrap());
    let packages: Vec<(String, String)> = folders
        .filter_map(|folder| {
            let text = fs::read_to_string(folder.path().join("Cargo.toml")).ok()?;
            Some((format!("tools/{}", folder.file_name().to_string_lossy()), text))
        })
        .collect();
    assert!(packages.len() >= 3, "{packages:?}");
    let wrong = members_rule(&fs::read_to_string(root().join("Cargo.toml")).unwrap(), &packages);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn runs_outlive_the_agents_unit_and_have_their_users() {
    let planted = "CapabilityBoundingSet=CAP_SETUID\nCapabilityBoundingSet=CAP_KILL\n#CAP_SETGID\nKillMode=mixed\nPrivateTmp=yes";
    let wrong = agent_unit_rule(planted);
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    let unit = fs::read_to_string(root().join("tools/systemd/muster-agent.service")).unwrap();
    let wrong = agent_unit_rule(&unit);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// A test runner shows it as passed: the line is what tells.
#[test]
fn a_skipped_test_leaves_a_line_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    for why in ["no control groups", "no IPv6"] {
        skip::leave(directory.path(), &skip::line(why)).unwrap();
    }
    let name = "SKIPPED a_skipped_test_leaves_a_line_with_its_name";
    let left = std::fs::read_to_string(directory.path().join("skipped-tests")).unwrap();
    assert_eq!(left, format!("{name}: no control groups\n{name}: no IPv6\n"));
}
