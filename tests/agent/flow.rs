//! The agent as its user runs it, against the real server: enrol, sync, emit, and what a kill of either may
//! not cost.

use crate::kit::{Program, Site, copy_directory, error_of, eventually, skipped, stored};
#[test]
fn a_device_enrols_syncs_its_real_packages_and_delivers_events() {
    let site = Site::new();
    let server = site.server();
    let token = site.token();

    let refused = site.refused(1, &["run"]);
    assert!(refused.contains("there is no data directory"), "{refused}");

    let enrolled = site.enroll(&token);
    assert!(enrolled.status.success(), "{}", error_of(&enrolled));
    let again = site.enroll(&token);
    assert_eq!(again.status.code(), Some(1));
    assert!(error_of(&again).contains("enrolled already, as 'kiosk'"), "{}", error_of(&again));

    let agent = site.agent_process();
    let second = site.refused(1, &["run"]);
    assert!(second.contains("in use by a running agent"), "{second}");

    site.sync();
    let status = site.status();
    assert_eq!((status["name"].as_str(), status["running"].as_bool()), (Some("kiosk"), Some(true)));
    assert!(
        status["last_sync"].is_u64() && status["next_sync"].is_u64() && status["last_error"].is_null(),
        "{status}"
    );

    let shown = site.shown();
    if let Ok(answer) =
        std::process::Command::new("dpkg-query").args(["-W", "-f=${db:Status-Abbrev}\n"]).output()
    {
        let expected = String::from_utf8_lossy(&answer.stdout)
            .lines()
            .filter(|line| !["n", "c"].contains(&&line[1..2]))
            .count();
        let said = shown.to_string();
        assert!(said.contains(&format!(":{expected}")), "{expected} packages: {said}");
    } else {
        skipped("the number of packages needs dpkg-query");
    }

    for severity in ["info", "warning", "error", "critical"] {
        let emitted = site.emit(severity, "hello");
        assert!(emitted.status.success(), "{}", error_of(&emitted));
    }
    site.wait_until_confirmed();
    assert!(agent.end().success());
    assert!(server.end().success());
    assert_eq!(stored(&site).len(), 4);
}

#[test]
fn a_token_that_is_used_up_mistyped_or_of_another_server_is_refused_with_what_to_do() {
    let (site, other) = (Site::new(), Site::new());
    let (_server, _other_server) = (site.server(), other.server());
    let refusal = |token: &str| {
        let output = site.enroll(token);
        (output.status.code(), error_of(&output))
    };
    let token = other.token();
    let (code, error) = refusal(&token);
    assert_eq!(code, Some(1));
    assert!(error.contains("the server showed certificate") && error.contains("expected"), "{error}");

    let (code, error) = refusal(&token[..token.len() - 3]);
    assert_eq!(code, Some(2));
    assert!(error.contains("incomplete or mistyped"), "{error}");

    let token = site.token();
    assert!(site.enroll(&token).status.success());
    std::fs::remove_dir_all(site.path("agent")).unwrap();
    let (code, error) = refusal(&token);
    assert_eq!(code, Some(1));
    let why = "the server refused: no join token is valid at this server now: those that were made have \
               expired, are used up or were revoked; make one with 'musterctl token create'";
    assert!(error.contains(why), "{error}");
    // While there is one, each is told what its own lacks.
    site.token();
    let (code, error) = refusal(&token);
    assert_eq!(code, Some(1));
    assert!(error.contains("--uses N"), "{error}");
    // Beside it, that the token is on the command line.
    let refused = error.lines().filter(|line| !line.starts_with("muster-agent: warning: "));
    assert_eq!(refused.count(), 1, "{error}");
}

#[test]
fn events_wait_in_the_spool_while_nobody_runs_and_while_the_server_is_away() {
    let (site, server) = Site::enrolled();
    server.kill();

    let emitted = site.emit("error", "nobody runs");
    assert!(emitted.status.success(), "{}", error_of(&emitted));
    assert!(String::from_utf8_lossy(&emitted.stdout).contains("no agent runs"));
    let agent = site.agent_process();
    assert!(site.emit("info", "no server").status.success());
    let failed = site.refused(1, &["sync"]);
    assert!(failed.contains("the sync failed"), "{failed}");
    agent.kill();

    let agent = site.agent_process();
    let status = site.status();
    assert_eq!(status["spool"]["highest_sequence"], 2, "{status}");
    let server = site.server();
    site.wait_until_confirmed();
    assert!(agent.end().success());
    assert!(server.end().success());
    assert_eq!(stored(&site), [(1, "nobody runs".to_owned()), (2, "no server".to_owned())]);
}

/// A copy of the directory, put back after more was acknowledged: the device still has that.
#[test]
fn a_restored_server_is_sent_again_what_it_had_acknowledged() {
    let (site, server) = Site::enrolled();
    let agent = site.agent_process();
    let deliver = |messages: &[&str]| {
        for message in messages {
            assert!(site.emit("error", message).status.success());
        }
        site.wait_until_confirmed();
    };
    deliver(&["before the copy"]);
    assert!(server.end().success());
    let copy = site.path("copy");
    copy_directory(&site.path("server"), &copy);

    let server = site.server();
    deliver(&["acknowledged", "acknowledged too"]);
    assert!(server.end().success());
    std::fs::remove_dir_all(site.path("server")).unwrap();
    std::fs::rename(&copy, site.path("server")).unwrap();

    let server = site.server();
    deliver(&["after the restore"]);
    assert!(agent.end().success());
    assert!(server.end().success());
    let messages = ["before the copy", "acknowledged", "acknowledged too", "after the restore"];
    let expected: Vec<_> = (1..).zip(messages.map(str::to_owned)).collect();
    assert_eq!(stored(&site), expected, "{}", site.log("agent.log"));
    assert!(site.log("agent.log").contains("does not know events behind 1"), "{}", site.log("agent.log"));
}

/// A ticket is used up by the connection on which it is shown. An attempt that finds nobody shows it to
/// nobody.
#[test]
fn attempts_that_find_no_server_cost_no_ticket() {
    let (site, server) = Site::enrolled();
    let agent = site.agent_process();
    assert!(site.agent(&["sync"]).status.success(), "in full, and a ticket is given out");
    server.kill();
    for attempt in 0..3 {
        assert_eq!(site.agent(&["sync"]).status.code(), Some(1), "attempt {attempt}");
    }
    let server = site.server();
    site.sync();
    let links = &site.ctl_json(&["status"])["links"];
    let handshakes = |field: &str| links[field].as_u64().unwrap();
    assert!(handshakes("handshakes") >= 1, "{links}");
    assert_eq!(handshakes("handshakes"), handshakes("handshakes_resumed"), "{links}");
    assert!(agent.end().success());
    assert!(server.end().success());
}

/// The server is killed again and again while events flow; the agent is killed once, too. Nothing that was
/// promised to the program is missing, nothing is there twice, and the order holds.
#[test]
fn kills_under_load_lose_nothing_and_double_nothing() {
    const KILLS: usize = 5;
    const BATCH: usize = 40;
    let site = Site::new();
    let mut server = site.server();
    site.enrol();
    let mut agent = site.agent_process();
    let mut promised: Vec<(u64, String)> = Vec::new();
    let emit_some = |promised: &mut Vec<(u64, String)>, batches: usize| {
        let mut program = Program::connect(&site);
        for batch in 0..batches {
            let severity = ["info", "warning", "error", "critical"][batch % 4];
            let messages: Vec<String> =
                (0..BATCH).map(|number| format!("{} {number}", promised.len())).collect();
            let sequences = program.emit(severity, &messages);
            promised.extend(sequences.into_iter().zip(messages));
        }
    };
    for round in 0..KILLS {
        emit_some(&mut promised, 10);
        eventually("some events are confirmed", || {
            site.agent(&["sync"]);
            site.status()["spool"]["acked_through"].as_u64().unwrap_or(0) > 0
        });
        // In the middle of what flows.
        emit_some(&mut promised, 10);
        server.kill();
        emit_some(&mut promised, 5);
        if round == KILLS / 2 {
            agent.kill();
            agent = site.agent_process();
        }
        server = site.server();
    }
    site.wait_until_confirmed();
    assert!(agent.end().success());
    assert!(server.end().success());
    let stored = stored(&site);
    assert!(stored.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order and none twice");
    assert_eq!(stored.len(), promised.len());
    assert_eq!(stored, promised);
    println!("{} events, {KILLS} kills of the server, 1 of the agent", stored.len());
}

#[test]
fn a_server_with_another_certificate_is_not_spoken_to_and_the_agent_says_which_it_saw() {
    let (site, server) = Site::enrolled();
    server.kill();
    // The same address, another server.
    std::fs::rename(site.path("server"), site.path("old")).unwrap();
    let _server = site.server();
    let _agent = site.agent_process();
    let failed = site.refused(1, &["sync"]);
    assert!(failed.contains("the server showed certificate"), "{failed}");
    let status = site.status();
    assert!(status["last_error"].as_str().unwrap().contains("the stored copies"), "{status}");
    eventually("the log says it", || site.log("agent.log").contains("the server showed certificate"));
}

/// An installation is noticed by itself, and so is a managed application whose condition changes, a file that
/// is wrong, and a configuration that is read again.
#[test]
fn what_changes_on_the_device_reaches_the_server_by_itself() {
    let (site, _server) = Site::enrolled();
    let root = site.path("root");
    let status_file = root.join("var/lib/dpkg/status");
    std::fs::create_dir_all(status_file.parent().unwrap()).unwrap();
    std::fs::create_dir_all(site.path("applications.d")).unwrap();
    let install = |names: &[&str]| {
        let stanza = |name: &&str| format!("Package: {name}\nStatus: install ok installed\nVersion: 1.0\n\n");
        let new = status_file.with_file_name("status-new");
        std::fs::write(&new, names.iter().map(stanza).collect::<String>()).unwrap();
        std::fs::rename(new, &status_file).unwrap();
    };
    install(&["first"]);
    let settings =
        format!("applications = {:?}\n[collect]\nroot = {:?}\n", site.path("applications.d"), root);
    site.write("agent/muster-agent.toml", &settings);
    let agent = site.agent_process();
    let listed =
        |name: &str| site.ctl_json(&["application", "list", "--device", "kiosk"]).to_string().contains(name);
    eventually("the first package is listed", || listed("\"first\""));
    assert!(!listed("\"second\""));
    install(&["first", "second"]);
    eventually("the second package is listed", || listed("\"second\""));
    install(&["second"]);
    eventually("the first package is gone", || !listed("\"first\""));

    let define =
        |name: &str, text: &str| std::fs::write(site.path("applications.d").join(name), text).unwrap();
    define(
        "shop.toml",
        "name = \"shop\"\n[condition]\ncommand = [\"sh\", \"-c\", \"echo no disk; exit 1\"]\n",
    );
    define("wrong.toml", "name = \"wrong\"\n[condition]\nunit = \"x\"\n");
    let shown = || site.shown().to_string();
    eventually("the condition is shown", || shown().contains("code 1: no disk"));
    let problems = site.status()["problems"].to_string();
    assert!(problems.contains("wrong.toml:3: condition.unit is not known"), "{problems}");

    site.write("agent/muster-agent.toml", format!("nonsense = 1\n{settings}"));
    agent.hang_up();
    eventually("the wrong configuration is refused", || {
        site.log("agent.log").contains("the configuration stays as it was")
    });
    std::fs::write(site.path("agent/muster-agent.toml"), format!("log_level = \"debug\"\n{settings}"))
        .unwrap();
    agent.hang_up();
    eventually("the right one is taken", || {
        site.log("agent.log").contains("the configuration was read again")
    });
    assert!(agent.end().success());
}

/// Before, only the look that the agent takes each minute found it.
#[test]
fn a_directory_of_applications_that_is_made_later_is_noticed_at_once() {
    const LOOK_SECONDS: u64 = 60;
    let (site, _server) = Site::enrolled();
    let directory = site.path("etc/muster/applications.d");
    let settings = format!("applications = {directory:?}\n[collect]\ndpkg = false\n");
    site.write("agent/muster-agent.toml", settings);
    let _agent = site.agent_process();
    eventually("it has looked", || !site.status()["last_sync"].is_null());
    let begun = std::time::Instant::now();
    // The second one when the directory itself is watched.
    for name in ["shop", "door"] {
        std::fs::create_dir_all(&directory).unwrap();
        let text = format!("name = {name:?}\n[condition]\ncommand = [\"true\"]\n");
        std::fs::write(directory.join(format!("{name}.toml")), text).unwrap();
        eventually("it is found", || site.status()["applications"].to_string().contains(name));
    }
    assert!(begun.elapsed().as_secs() < LOOK_SECONDS / 2, "{:?}", begun.elapsed());
}
