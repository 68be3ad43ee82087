//! Less privileged neighbours on the device: what other users' files and programs may do to an agent, and
//! what not.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kit::{AGENT, Running, Site, error_of, eventually, skipped};
use muster::agent::identity::Identity;
use rustix::fs::{CWD, Mode, mkfifoat};

/// A server and an enrolled device whose agent does not run yet, with these files in `applications.d`.
fn site(definitions: &[(&str, String)]) -> (Site, Running) {
    let (site, server) = Site::enrolled();
    for (name, text) in definitions {
        site.write(&format!("applications.d/{name}"), text);
    }
    site.configure("");
    (site, server)
}

fn fifo(path: &Path) -> String {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Whether the server has an event with this message.
fn has_arrived(site: &Site, message: &str) -> bool {
    String::from_utf8(site.ctl(&["event", "list"]).stdout).unwrap().contains(message)
}

fn detail(site: &Site, application: &str) -> String {
    let status = site.status();
    let all = status["applications"].as_array().cloned().unwrap_or_default();
    let one = all.iter().find(|one| one["application"] == application);
    one.and_then(|one| one["detail"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn a_fifo_in_place_of_a_file_holds_nothing_up() {
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| fifo(&outside.path().join(name));
    let (pid, numbers, settings) = (at("pid"), at("numbers"), at("settings"));
    let (site, _server) = site(&[
        ("pid.toml", format!("name = \"pid\"\n[condition]\npid_file = \"{pid}\"\n")),
        (
            "numbers.toml",
            format!(
                "name = \"numbers\"\n[condition]\ncommand = [\"true\"]\n[statistics]\nfile = \"{numbers}\"\n\
                 [settings]\nfile = \"{settings}\"\nformat = \"json\"\n"
            ),
        ),
        ("zebra.toml", fifo(&outside.path().join("definition"))),
    ]);
    let definition = site.path("applications.d/zebra.toml");
    std::fs::remove_file(&definition).unwrap();
    std::os::unix::fs::symlink(outside.path().join("definition"), &definition).unwrap();
    let _agent = site.agent_process();
    assert!(site.emit("error", "beside the FIFOs").status.success());
    eventually("the event arrives", || has_arrived(&site, "beside the FIFOs"));
    eventually("the pid file is named", || detail(&site, "pid").contains("it is a FIFO"));
    let problems = site.status()["problems"].to_string();
    for file in [&numbers, &definition.display().to_string()] {
        assert!(problems.contains(&format!("{file}: it is a FIFO, not a regular file")), "{problems}");
    }
    let policy = site.path("policy.json");
    std::fs::write(&policy, "{\"a\": 1}").unwrap();
    let policy = policy.to_str().unwrap();
    let set =
        site.ctl(&["settings", "set", "--device", "kiosk", "--application", "numbers", "--file", policy]);
    assert!(set.status.success(), "{}", error_of(&set));
    eventually("the settings are refused", || {
        site.agent(&["sync"]);
        has_arrived(&site, &format!("{settings}: it is a FIFO, not a regular file"))
    });
}

#[test]
fn neither_link_nor_events_wait_for_a_check_that_takes_long() {
    let slow = "name = \"slow\"\n[condition]\ncommand = [\"sleep\", \"600\"]\ntimeout_seconds = 40\n";
    let (site, _server) = site(&[("slow.toml", slow.to_owned())]);
    let _agent = site.agent_process();
    assert!(site.emit("error", "while it is looked at").status.success());
    eventually("the event arrives", || has_arrived(&site, "while it is looked at"));
    assert_eq!(detail(&site, "slow"), "", "{}", site.log("agent.log"));
    eventually("its check has been ended", || detail(&site, "slow").contains("took longer than 40 s"));
}

/// A user who is nobody in particular.
const NEIGHBOUR: u32 = 12_345;

/// The agent's program where every user can run it.
fn program_for_all() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    open_to_all(directory.path());
    let program = directory.path().join("muster-agent");
    std::fs::copy(AGENT, &program).unwrap();
    (directory, program)
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// A device whose agent, which does not run yet, will listen for everybody.
struct Widened {
    site: Site,
    _server: Running,
    _public: tempfile::TempDir,
    socket: PathBuf,
    /// The part of the configuration that other users' programs read.
    theirs: PathBuf,
    program: PathBuf,
}

impl Widened {
    /// `data`: the data directory that other users are told of; empty: the agent's own.
    fn new(data: &str) -> Self {
        let (site, server) = site(&[]);
        let (public, program) = program_for_all();
        let socket = public.path().join("agent.sock");
        let config = site.path("agent/muster-agent.toml");
        let own = std::fs::read_to_string(&config).unwrap();
        let wide = format!("[socket]\npath = {socket:?}\nmode = \"0666\"\n");
        std::fs::write(&config, format!("{own}{wide}")).unwrap();
        let theirs = public.path().join("muster-agent.toml");
        let data = if data.is_empty() { site.path("agent") } else { data.into() };
        std::fs::write(&theirs, format!("data = {data:?}\n{wide}")).unwrap();
        open_to_all(&theirs);
        Self { site, _server: server, _public: public, socket, theirs, program }
    }
}

/// Output of `muster-agent` for another user with the socket widened for all.
fn as_neighbour(program: &Path, config: &Path, arguments: &[&str]) -> std::process::Output {
    let config = ["--config", config.to_str().unwrap()];
    let mut command = Command::new(program);
    command.args(arguments).args(config).uid(NEIGHBOUR).gid(NEIGHBOUR).current_dir("/").output().unwrap()
}

#[test]
fn other_users_may_emit_through_a_widened_socket_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can run a program as another user");
    }
    let Widened { site, socket, theirs, program, .. } = &Widened::new("/nowhere");
    let _agent = site.agent_process();
    let emit = |field: &str, application: &str| {
        let event = [
            "emit",
            "--application",
            application,
            "--severity",
            "warning",
            "--kind",
            "test",
            "hello",
            "--field",
        ];
        as_neighbour(program, theirs, &[&event[..], &[field]].concat())
    };
    let emitted = emit("uid=0", "shop");
    assert!(emitted.status.success(), "{}", error_of(&emitted));
    eventually("the event arrives", || has_arrived(site, "hello"));
    let events = String::from_utf8(site.ctl(&["event", "list"]).stdout).unwrap().replace(' ', "");
    assert!(events.contains("\"uid\":\"12345\"") && !events.contains("\"uid\":\"0\""), "{events}");
    assert!(error_of(&emit("a=b", "muster-agent")).contains("the name is reserved"));
    for (arguments, command) in
        [(&["sync"][..], "sync"), (&["notice", "suspend"], "suspend"), (&["notice", "resume"], "resume")]
    {
        let refused = as_neighbour(program, theirs, arguments);
        assert!(!refused.status.success());
        let why =
            format!("'{command}' is for root and the agent's own user; user 12345 may emit events alone");
        assert!(error_of(&refused).contains(&why), "{}", error_of(&refused));
    }
    // Its connections leave room for the others', and its events have a rate. A program as that user, in this
    // process's place.
    let flood = format!(
        "import socket, json\n\
         socket.setdefaulttimeout(100)\n\
         conns = [socket.socket(socket.AF_UNIX) for _ in range(40)]\n\
         for c in conns: c.connect('{}')\n\
         said = [c.recv(4096) for c in conns[16:]]\n\
         assert all(b'16 programs are connected' in one for one in said), said\n\
         line = json.dumps(dict(application='shop', severity='info', kind='flood', message='x' * 900)).encode() + b'\\n'\n\
         f = conns[0].makefile('rwb')\n\
         answers = []\n\
         for _ in range(1000):\n    f.write(line); f.flush(); answers.append(json.loads(f.readline()))\n\
         taken = [one for one in answers if 'sequence' in one]\n\
         refused = [one for one in answers if 'error' in one]\n\
         assert 200 < len(taken) < 900 and refused, (len(taken), refused[:1])\n\
         assert 'user 12345 has emitted too much' in refused[0]['error'], refused[0]\n",
        socket.display()
    );
    let flooded =
        Command::new("python3").args(["-c", &flood]).uid(NEIGHBOUR).gid(NEIGHBOUR).current_dir("/").output();
    match flooded {
        Ok(output) => assert!(output.status.success(), "{}", error_of(&output)),
        Err(error) => skipped(format_args!("in part: no python3 for a flood: {error}")),
    }
    assert_eq!(site.status()["running"], true, "the owner is answered meanwhile");
}

/// The spool, which the agent's own user turns to meanwhile, is not for other users.
#[test]
fn an_event_of_another_user_waits_for_an_agent_that_is_started_anew() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can run a program as another user");
    }
    let Widened { site, theirs, program, .. } = &Widened::new("");
    let event = ["emit", "--application", "shop", "--severity", "info", "--kind", "test", "patient"];
    let refused = as_neighbour(program, theirs, &event);
    let why = error_of(&refused);
    assert!(!refused.status.success() && why.contains("no agent has listened at"), "{why}");
    std::thread::scope(|scope| {
        let emitted = scope.spawn(|| as_neighbour(program, theirs, &event));
        let _agent = site.agent_process();
        let emitted = emitted.join().unwrap();
        assert!(emitted.status.success(), "{}", error_of(&emitted));
    });
}

#[test]
fn a_join_token_need_not_stand_in_the_process_list() {
    let site = Site::new();
    let _server = site.server();
    let address = site.address.to_string();
    let enroll = |data: &str, more: &[&str], variable: Option<&str>, input: &str| {
        let data = site.path(data).display().to_string();
        let mut command = Command::new(AGENT);
        command.args(["enroll", "--server", &address, "--name", "kiosk", "--data", &data]).args(more);
        command.env_remove("MUSTER_TOKEN").envs(variable.map(|token| ("MUSTER_TOKEN", token)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    let succeeds = |output: &std::process::Output, warns: bool| {
        assert!(output.status.success(), "{}", error_of(output));
        assert_eq!(error_of(output).contains("in the process list"), warns, "{}", error_of(output));
    };
    let credentials = site.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    // All that `musterctl token create` prints, as systemd gives a unit its credentials.
    let file = credentials.join("token");
    std::fs::write(&file, format!("{}\n\nFor 1 device, until …\n", site.token())).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
    succeeds(&enroll("a", &["--token-file", file.to_str().unwrap()], None, ""), false);
    succeeds(&enroll("b", &["--token-file", "-"], None, &format!("{}\n", site.token())), false);
    succeeds(&enroll("c", &["--token", "-"], None, &site.token()), false);
    succeeds(&enroll("d", &[], Some(&site.token()), ""), false);
    succeeds(&enroll("e", &["--token", &site.token()], None, ""), true);
    let none = enroll("f", &[], None, "");
    assert_eq!(none.status.code(), Some(2));
    assert!(error_of(&none).contains("give --token-file FILE ('-' for standard input) or set MUSTER_TOKEN"));
    let absent = enroll("f", &["--token-file", "/no/such/token"], None, "");
    assert!(
        error_of(&absent).contains("the join token can't be read from /no/such/token"),
        "{}",
        error_of(&absent)
    );
}

/// Number of times that these bytes are in a process's memory that can be written to.
fn occurrences(process: u32, wanted: &[u8]) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let ranges = maps.lines().filter(|line| line.contains(" rw")).filter_map(|line| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
    });
    let mut found = 0;
    for (from, to) in ranges {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // A range of the kernel can't be read.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found += bytes.windows(wanted.len()).filter(|window| *window == wanted).count();
        }
    }
    found
}

#[test]
fn a_running_agent_holds_no_copies_of_its_key() {
    let (site, _server) = site(&[]);
    let agent = site.agent_process();
    site.wait_until_confirmed();
    let identity = Identity::read(&site.path("agent")).unwrap().unwrap();
    // PKCS #8 as it is on the disk: what TLS keeps has another form.
    assert_eq!(occurrences(agent.id(), &identity.private_key), 0);
}
