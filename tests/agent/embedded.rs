//! Agents within a program, here that of the test, at the real server.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::kit::{Running, Site, eventually};
use muster::{
    Agent, AgentError, Application, Condition, NewEvent, RunningAgent, Severity, StopReason, Task, TaskEnd,
};
use serde_json::{Value, json};

/// A server, and heat pumps of which each is an agent in the test's process.
struct Fixture {
    site: Site,
    _server: Running,
}

/// The state of a heat pump's program.
#[derive(Default)]
struct Pump {
    /// All settings that it has been handed.
    settings: Mutex<Vec<Value>>,
    has_failed: Mutex<bool>,
}

/// Takes temperatures of up to 60 °C, and panics at 13.
const SCHEMA: &str = r#"{"type": "object", "properties": {"celsius": {"type": "integer"}}}"#;

impl Pump {
    fn take(&self, settings: &str) -> Result<(), String> {
        let settings: Value = serde_json::from_str(settings).unwrap();
        assert_ne!(settings["celsius"], 13);
        if settings["celsius"].as_i64() > Some(60) {
            return Err("hotter than 60 °C is not for this pump".into());
        }
        self.settings.lock().unwrap().push(settings);
        Ok(())
    }

    fn condition(&self) -> (Condition, String) {
        if *self.has_failed.lock().unwrap() {
            (Condition::Failed, "no water".into())
        } else {
            (Condition::Running, String::new())
        }
    }
}

/// Runs until it is cancelled when it is asked for nothing.
fn defrost(task: &Task) -> TaskEnd {
    let arguments: Value = serde_json::from_str(task.arguments()).unwrap();
    let Some(minutes) = arguments["minutes"].as_i64() else {
        task.progress(40, "for ever");
        while !task.is_cancelled() {
            std::thread::yield_now();
        }
        return TaskEnd::default();
    };
    TaskEnd { exit_code: i32::from(minutes > 9), output: format!("{minutes} minutes").into_bytes() }
}

impl Fixture {
    fn new() -> Self {
        let site = Site::new();
        let server = site.server();
        Self { site, _server: server }
    }

    fn agent(&self, name: &str, pump: &Arc<Pump>) -> Agent {
        let pump = || Arc::clone(pump);
        let (settings, condition) = (pump(), pump());
        let heatpump = Application::new("heatpump", "2.1.0")
            .condition(move || condition.condition())
            .statistic("flow_temperature", "°C", || Some(35.5))
            .statistic("no_sensor", "°C", || None)
            .settings(SCHEMA, move |text| settings.take(text))
            .task("defrost", r#"{"type": "object"}"#, defrost);
        let builder = Agent::builder(self.site.path(name)).name(name).wake_port(0);
        builder.application(heatpump).spool_mebibytes(1).build().unwrap()
    }

    fn enrolled(&self, name: &str, pump: &Arc<Pump>) -> Agent {
        let agent = self.agent(name, pump);
        assert!(!agent.is_enrolled().unwrap());
        let is_waiting = agent.enroll(&self.site.address.to_string(), &self.site.token()).unwrap();
        assert!(!is_waiting && agent.is_enrolled().unwrap());
        agent
    }

    fn start(&self, name: &str, pump: &Arc<Pump>) -> RunningAgent {
        let agent = self.enrolled(name, pump).start().unwrap();
        agent.sync().unwrap();
        agent
    }

    fn shown(&self, device: &str) -> Value {
        self.site.ctl_json(&["device", "show", device])
    }

    fn set(&self, device: &str, agent: &RunningAgent, settings: &Value) {
        let file = self.site.write("settings.json", settings.to_string());
        let what = ["--device", device, "--application", "heatpump", "--file", &file];
        self.site.ctl_json(&[&["settings", "set"], &what[..]].concat());
        agent.sync().unwrap();
    }

    /// State and detail of the device's report on its settings.
    fn reported(&self, device: &str) -> (String, String) {
        let all = self.site.ctl_json(&["settings", "show", "--device", device]);
        let found = all.as_array().unwrap().iter().find(|one| one["application"] == "heatpump");
        let text = |key: &str| found.unwrap()["reported"][key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("detail"))
    }

    fn task(&self, device: &str, agent: &RunningAgent, arguments: &Value) -> String {
        let file = self.site.write("arguments.json", arguments.to_string());
        let what = ["--application", "heatpump", "--kind", "defrost", "--device", device, "--file", &file];
        let made = self.site.ctl_json(&[&["task", "create"], &what[..]].concat());
        assert_eq!(made["offered"], 1, "{made}");
        agent.sync().unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    fn wait_for_run(&self, task: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut run = Value::Null;
        eventually(what, || {
            let shown = self.site.ctl_json(&["task", "show", task]);
            run = shown["runs"].as_array().unwrap().last().cloned().unwrap_or_default();
            is_it(&run)
        });
        run
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn two_agents_in_one_process_are_two_devices() {
    let fixture = Fixture::new();
    let pumps = [Arc::new(Pump::default()), Arc::new(Pump::default())];
    let agents = [fixture.start("cellar", &pumps[0]), fixture.start("attic", &pumps[1])];
    *pumps[1].has_failed.lock().unwrap() = true;
    for (agent, name) in agents.iter().zip(["cellar", "attic"]) {
        agent.sync().unwrap();
        assert_eq!(agent.status().unwrap().name.as_deref(), Some(name));
        let listed = fixture.site.ctl_json(&["application", "list", "--device", name]);
        let listed = listed.to_string();
        assert!(listed.contains("heatpump") && listed.contains("2.1.0"), "{listed}");
        let event = NewEvent::new("heatpump", Severity::Warning, "low_pressure", "0.9 bar in the circuit");
        assert_eq!(agent.emit(&event.field("circuit", name)).unwrap(), 1);
    }
    eventually("the events are there", || fixture.site.events("heatpump", "low_pressure").len() == 2);
    let shown = |name: &str| fixture.shown(name).to_string();
    eventually("the condition is there", || shown("attic").contains("no water"));
    assert!(shown("attic").contains("flow_temperature") && !shown("attic").contains("no_sensor"));
    assert!(!shown("cellar").contains("no water"));
    // Several at a time ask the same one.
    std::thread::scope(|scope| {
        for number in 0..8 {
            let agent = &agents[0];
            scope.spawn(move || {
                let event = NewEvent::new("heatpump", Severity::Info, "many", number.to_string());
                agent.emit(&event).unwrap();
            });
        }
    });
    let [cellar, attic] = agents;
    cellar.stop(StopReason::Shutdown).unwrap();
    eventually("all was delivered", || fixture.site.events("heatpump", "many").len() == 8);
    eventually("the server knows that it is off", || shown("cellar").contains("shutdown"));
    // The other one is not concerned, and a dropped one ends.
    attic.sync().unwrap();
    drop(attic);
    assert!(!names(&fixture.site.path("attic")).iter().any(|name| name.ends_with(".sock")));
}

#[test]
fn settings_are_handed_over_refused_and_handed_over_again() {
    let fixture = Fixture::new();
    let pump = Arc::new(Pump::default());
    let agent = fixture.start("cellar", &pump);
    fixture.set("cellar", &agent, &json!({"celsius": 45}));
    eventually("they are in force", || fixture.reported("cellar").0 == "applied");
    assert_eq!(*pump.settings.lock().unwrap(), [json!({"celsius": 45})]);
    for (settings, reason) in
        [(70, "hotter than 60 °C is not for this pump"), (13, "the program's function panicked")]
    {
        fixture.set("cellar", &agent, &json!({"celsius": settings}));
        eventually("they are refused", || fixture.reported("cellar") == ("failed".into(), reason.into()));
    }
    fixture.set("cellar", &agent, &json!({"celsius": 50}));
    eventually("they are in force", || fixture.reported("cellar").0 == "applied");
    agent.stop(StopReason::Reboot).unwrap();
    // The program keeps none.
    let again = Arc::new(Pump::default());
    let agent = fixture.agent("cellar", &again).start().unwrap();
    eventually("it is told", || *again.settings.lock().unwrap() == [json!({"celsius": 50})]);
    agent.sync().unwrap();
    assert_eq!(again.settings.lock().unwrap().len(), 1, "and told once");
    assert_eq!(fixture.site.events("heatpump", "settings_applied").len(), 2, "a start is no news");
}

#[test]
fn tasks_are_functions() {
    let fixture = Fixture::new();
    let pump = Arc::new(Pump::default());
    let agent = fixture.start("cellar", &pump);
    for (minutes, state, exit_code) in [(5, "succeeded", 0), (10, "failed", 1)] {
        let task = fixture.task("cellar", &agent, &json!({"minutes": minutes}));
        let run = fixture.wait_for_run(&task, "it is done", |run| run["state"] == state);
        assert_eq!(run["exit_code"], exit_code, "{run}");
        let shown = fixture.site.ctl_json(&["task", "show", &task, "--output"]);
        assert_eq!(shown["outputs"][0]["output"]["head"], format!("{minutes} minutes"));
    }
    let task = fixture.task("cellar", &agent, &json!({}));
    fixture.wait_for_run(&task, "it is under way", |run| run["progress_percent"] == 40);
    fixture.site.ctl_json(&["task", "cancel", &task]);
    agent.sync().unwrap();
    fixture.wait_for_run(&task, "it is cancelled", |run| run["state"] == "cancelled");
    // One that goes on behind the agent's end is found by the next agent in the same process.
    let task = fixture.task("cellar", &agent, &json!({}));
    fixture.wait_for_run(&task, "it is under way", |run| run["progress_percent"] == 40);
    agent.stop(StopReason::AgentStopped).unwrap();
    let agent = fixture.agent("cellar", &pump).start().unwrap();
    agent.sync().unwrap();
    fixture.site.ctl_json(&["task", "cancel", &task]);
    agent.sync().unwrap();
    fixture.wait_for_run(&task, "it is cancelled", |run| run["state"] == "cancelled");
}

#[test]
fn what_is_wrong_has_its_type() {
    let fixture = Fixture::new();
    let pump = Arc::new(Pump::default());
    let agent = fixture.agent("cellar", &pump);
    assert!(matches!(agent.start(), Err(AgentError::Directory(_))));
    let agent = fixture.agent("cellar", &pump);
    assert!(matches!(agent.enroll("a b", &fixture.site.token()), Err(AgentError::Address(_))));
    assert!(matches!(agent.enroll("localhost", "muster1-"), Err(AgentError::Token(_))));
    let (address, token) = (fixture.site.address.to_string(), fixture.site.token());
    let used = fixture.site.token();
    fixture.agent("attic", &pump).enroll(&address, &used).unwrap();
    assert!(matches!(agent.enroll(&address, &used), Err(AgentError::Enroll(_))), "a token of one use");
    agent.enroll(&address, &token).unwrap();
    let error = agent.enroll(&address, &fixture.site.token()).unwrap_err();
    assert!(matches!(&error, AgentError::Enrolled { name, .. } if name == "cellar"), "{error}");

    let running = agent.start().unwrap();
    let second = fixture.agent("cellar", &pump).start();
    assert!(matches!(second, Err(AgentError::Directory(_))), "two on one directory");
    let large = NewEvent::new("heatpump", Severity::Info, "large", "x".repeat(1 << 20));
    assert!(matches!(running.emit(&large), Err(AgentError::Refused(_) | AgentError::Ended)));
    let unnamed = NewEvent::new("", Severity::Info, "large", "x");
    assert!(matches!(running.emit(&unnamed), Err(AgentError::Refused(_))));
    running.stop(StopReason::AgentStopped).unwrap();
    assert!(matches!(running.sync(), Err(AgentError::Ended)));
    assert!(matches!(running.stop(StopReason::Reboot), Err(AgentError::Ended)));

    let builder = || Agent::builder("/nowhere");
    for (builder, what) in [
        (builder().name(""), "a device's name"),
        (builder().spool_mebibytes(0), "1 to 1024 are"),
        (builder().application(Application::new("Muster-Agent", "1")), "which is the agent"),
        (builder().application(Application::new("a", "")), "a version has"),
        (builder().application(Application::new("a", "1").settings("[]", |_| Ok(()))), "settings:"),
        (
            builder().application(Application::new("a", "1").task("b", "{", |_| TaskEnd::default())),
            "task 'b':",
        ),
        (
            builder().application(Application::new("a", "1")).application(Application::new("a", "2")),
            "two applications are called 'a'",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(&error, AgentError::Program(text) if text.contains(what)), "{error}");
    }
}
