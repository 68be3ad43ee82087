//! An agent that knows several servers: one serves, the others stand by for it.

use std::net::{SocketAddr, TcpListener};

use crate::kit::{Running, Site, error_of, eventually};

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Kills the server and has another one, at this address, serve the same data.
fn take_over(site: &mut Site, server: Running, address: SocketAddr) -> Running {
    server.kill();
    site.address = address;
    site.server()
}

fn set_policy(site: &Site, settings: &str) {
    let file = site.write("policy.json", settings);
    site.ctl_json(&["policy", "set", "--group", "/", "--application", "muster-agent", "--file", &file]);
}

fn messages(site: &Site) -> Vec<String> {
    let events = site.events("shop", "test");
    let mut messages: Vec<_> =
        events.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect();
    messages.sort_unstable();
    messages
}

#[test]
fn events_arrive_once_each_at_the_server_that_took_over() {
    let mut site = Site::new();
    let server = site.server();
    // The first accepts connections and says nothing, as a stopped process does; at the second nobody is.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, next) = (site.address, nobody());
    let list = format!("{},{next},{first}", silent.local_addr().unwrap());
    let enrolled = site.agent(&["enroll", "--server", &list, "--token", &site.token(), "--name", "kiosk"]);
    assert!(enrolled.status.success(), "{}", error_of(&enrolled));
    site.configure("");
    let agent = site.agent_process();
    assert_eq!(site.status()["server"], list);
    assert!(site.emit("warning", "before").status.success());
    site.wait_until_confirmed();

    let server = take_over(&mut site, server, next);
    assert!(site.emit("warning", "while it was away").status.success());
    site.wait_until_confirmed();
    assert_eq!(messages(&site), ["before", "while it was away"]);
    assert!(agent.end().success());
    assert!(server.end().success());
}

#[test]
fn a_policy_names_the_servers_and_a_wrong_one_strands_nobody() {
    let (mut site, server) = Site::enrolled();
    let (home, next) = (site.address, nobody());
    site.configure("");
    let agent = site.agent_process();
    site.sync();
    set_policy(&site, &format!("{{\"servers\":[\"{next}\",\"no-such-host.invalid\"]}}"));
    let list = format!("{next},no-such-host.invalid:13000,{home}");
    eventually("it knows them", || {
        site.agent(&["sync"]);
        site.status()["server"] == list
    });
    let server = take_over(&mut site, server, next);
    site.sync();
    let checked = site.agent(&["check"]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains(&format!("TLS 1.3 at {next}")), "{said}");
    assert!(said.contains("'no-such-host.invalid' could not be resolved"), "{said}");
    // Also after a restart of the agent.
    assert!(agent.end().success());
    let agent = site.agent_process();
    assert_eq!(site.status()["server"], list);
    site.sync();

    // None of these is the server: the device comes by the way on which it enrolled, and hears that.
    set_policy(&site, &format!("{{\"servers\":[\"{}\"]}}", nobody()));
    site.sync();
    eventually("it knows the wrong one", || !site.status()["server"].as_str().unwrap().contains("no-such"));
    let server = take_over(&mut site, server, home);
    site.ctl_json(&["policy", "remove", "--group", "/", "--application", "muster-agent"]);
    eventually("it is home", || {
        site.agent(&["sync"]);
        site.status()["server"] == home.to_string()
    });
    assert!(agent.end().success());
    assert!(server.end().success());
}
