//! A real nginx whose settings the device puts in place. Needs the program `nginx`; where it is missing it
//! says so and passes.

mod killed_agent;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kit::{TIMEOUT, eventually, skipped};
use muster::agent::application::definition::parse;
use muster::agent::application::{Definition, check};
use muster::agent::managed::{Managed, Work, work::work};
use muster::wire::section::Condition;
use muster::wire::settings::{Drift, SettingsOrder, SettingsReport, SettingsState};
use muster::wire::time::WallTime;
use rustix::process::{Pid, Signal, kill_process_group};

/// An nginx of its own, under its own prefix and port.
struct Nginx {
    directory: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    /// `None`, said aloud, where there is no nginx.
    fn start() -> Option<Self> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
            skipped("the program 'nginx' is not installed (apt-get install nginx-light)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(directory.path().join("muster.conf"), "return 200 \"before\";\n").unwrap();
        fs::write(
            directory.path().join("nginx.conf"),
            format!(
                "worker_processes 1;\nerror_log {prefix}/error.log;\npid {prefix}/nginx.pid;\nevents {{}}\n\
                 http {{\n  access_log off;\n  client_body_temp_path {prefix}/t1; proxy_temp_path {prefix}/t2;\n  \
                 fastcgi_temp_path {prefix}/t3; uwsgi_temp_path {prefix}/t4; scgi_temp_path {prefix}/t5;\n  \
                 server {{\n    listen 127.0.0.1:{port};\n    location / {{ include {prefix}/muster.conf; }}\n  }}\n}}\n"
            ),
        )
        .unwrap();
        let nginx = Self { directory, port };
        assert!(nginx.run(&[]).success());
        nginx.until_served("before");
        Some(nginx)
    }

    fn run(&self, arguments: &[&str]) -> std::process::ExitStatus {
        let configuration = self.directory.path().join("nginx.conf");
        Command::new("nginx")
            .args(["-p", self.directory.path().to_str().unwrap(), "-c", configuration.to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    }

    /// The settings file, as it is.
    fn file(&self) -> String {
        fs::read_to_string(self.directory.path().join("muster.conf")).unwrap()
    }

    fn served(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Old workers may answer for a moment after a reload.
    #[track_caller]
    fn until_served(&self, expected: &str) {
        eventually(&format!("'{expected}' is served"), || self.served().as_deref() == Some(expected));
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.run(&["-s", "stop"]);
    }
}

/// An nginx, and what manages its settings.
struct Site {
    nginx: Nginx,
    definition: Definition,
    managed: Managed,
}

impl Site {
    /// `None`, said aloud, where there is no nginx.
    fn start() -> Option<Self> {
        let nginx = Nginx::start()?;
        let definition = define(nginx.directory.path(), "");
        let mut managed = Managed::open(&nginx.directory.path().join("orders"), WallTime(0)).unwrap();
        managed.defined(std::slice::from_ref(&definition), WallTime(1));
        Some(Self { nginx, definition, managed })
    }

    fn order(&mut self, revision: u64, settings: &str) {
        let order = SettingsOrder {
            application: "nginx".into(),
            revision,
            settings: Some(settings.into()),
            drift: Drift::Repair,
        };
        self.managed.take(&order, WallTime(revision)).unwrap();
    }

    fn work(&mut self) {
        while let Some(next) = self.managed.next_work(WallTime(9)) {
            self.managed.done(work(next), WallTime(9));
        }
    }

    fn report(&self) -> SettingsReport {
        self.managed.reports().next().unwrap().1
    }
}

fn define(prefix: &Path, before_reload: &str) -> Definition {
    parse(&definition(prefix, before_reload), Path::new("nginx.toml")).unwrap()
}

/// The shipped definition, on an nginx under `prefix`. `before_reload`: what the apply command does first.
fn definition(prefix: &Path, before_reload: &str) -> String {
    let shipped = include_str!("../../../tools/applications.d/nginx.toml");
    let prefix = prefix.display();
    let nginx = format!("\"nginx\", \"-p\", \"{prefix}\", \"-c\", \"{prefix}/nginx.conf\"");
    let mut text = shipped
        .replace("/run/nginx.pid", &format!("{prefix}/nginx.pid"))
        .replace("/etc/nginx/conf.d/muster.conf", &format!("{prefix}/muster.conf"))
        .replace("\"nginx\", \"-t\"", &format!("{nginx}, \"-t\""))
        .replace("\"nginx\", \"-s\"", &format!("{nginx}, \"-s\""));
    if !before_reload.is_empty() {
        let script = format!("{before_reload}; nginx -p {prefix} -c {prefix}/nginx.conf -s reload");
        let apply = format!("apply = [{nginx}, \"-s\", \"reload\"]");
        assert!(text.contains(&apply));
        text = text.replace(&apply, &format!("apply = [\"sh\", \"-c\", \"{script}\"]"));
    }
    text
}

/// First act of an apply command that is killed on its way: it says who it is and waits, the first time.
fn wait_once(directory: &Path) -> String {
    let begun = directory.join("begun").display().to_string();
    format!("[ -e {begun} ] || {{ echo $$ > {begun}; sleep 600; }}")
}

/// The process group of the apply command that waits.
fn waiting_group(directory: &Path) -> Pid {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(directory.join("begun")).unwrap_or_default();
        if let Ok(number) = text.trim().parse() {
            return Pid::from_raw(number).unwrap();
        }
        assert!(begun.elapsed() < TIMEOUT, "the apply has not begun");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_ordered_is_served_and_what_nginx_refuses_is_not() {
    let Some(mut site) = Site::start() else { return };
    let observed = check(&site.definition);
    assert_eq!(observed.condition, Condition::Running);
    assert!(observed.version.unwrap().starts_with(|first: char| first.is_ascii_digit()));

    site.order(1, "{\"return\":\"200 \\\"blue\\\"\"}");
    site.work();
    assert_eq!(site.report().state, SettingsState::Applied, "{:?}", site.report());
    site.nginx.until_served("blue");

    site.order(2, "{\"retrun\":\"200 \\\"red\\\"\"}");
    site.work();
    let report = site.report();
    assert_eq!((report.state, report.applied_revision), (SettingsState::Failed, 1));
    assert!(report.detail.contains("unknown directive \"retrun\""), "{report:?}");
    site.nginx.until_served("blue");
    assert_eq!(site.nginx.file(), "return 200 \"blue\";\n");

    site.order(3, "{\"return\":\"200 \\\"green\\\"\"}");
    site.work();
    site.nginx.until_served("green");
}

/// Not a test by itself: the process that is killed in the middle of an apply.
#[test]
fn killed_helper() {
    let Ok(directory) = std::env::var("MUSTER_TEST_NGINX") else { return };
    let directory = Path::new(&directory);
    let mut managed = Managed::open(&directory.join("orders"), WallTime(0)).unwrap();
    managed.defined(&[define(directory, &wait_once(directory))], WallTime(1));
    while let Some(next) = managed.next_work(WallTime(2)) {
        let outcome = work(next);
        managed.done(outcome, WallTime(2));
    }
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_an_apply_recovers() {
    let Some(mut site) = Site::start() else { return };
    site.order(1, "{\"return\":\"200 \\\"blue\\\"\"}");
    site.work();
    site.nginx.until_served("blue");
    site.order(2, "{\"return\":\"200 \\\"green\\\"\"}");
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nginx::killed_helper"])
        .env("MUSTER_TEST_NGINX", site.nginx.directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let group = waiting_group(site.nginx.directory.path());
    agent.kill().unwrap();
    agent.wait().unwrap();
    kill_process_group(group, Signal::KILL).unwrap();
    // The new file is in place, and nginx was not told.
    assert_eq!(site.nginx.file(), "return 200 \"green\";\n");
    assert_ne!(site.nginx.served().as_deref(), Some("green"));
    site.nginx.until_served("blue");

    site.managed = Managed::open(&site.nginx.directory.path().join("orders"), WallTime(3)).unwrap();
    let recovery = site.managed.next_work(WallTime(3)).unwrap();
    assert!(matches!(recovery, Work::Recover { .. }), "{recovery:?}");
    site.managed.put_off(recovery);
    site.managed.defined(&[define(site.nginx.directory.path(), "")], WallTime(4));
    site.work();
    assert_eq!(site.report().state, SettingsState::Applied, "{:?}", site.report());
    site.nginx.until_served("green");
}
