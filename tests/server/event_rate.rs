//! One device that sends events without end, beside others.

use crate::kit::{Program, Site, error_of, eventually, stored};

#[test]
fn a_device_that_sends_too_much_says_so_and_brings_all_of_it_in_its_time() {
    let site = Site::new();
    let config = "[journal]\ndevice_rate = \"64KiB\"\ndevice_burst = \"1MiB\"\n";
    let server = site.server_with(&["--config", &site.write("musterd.toml", config)], &[]);
    let quiet = Site::at(site.address);
    for (device, name) in [(&site, "kiosk"), (&quiet, "quiet")] {
        let (token, address) = (site.token(), site.address.to_string());
        let enrolled = device.agent(&["enroll", "--server", &address, "--token", &token, "--name", name]);
        assert!(enrolled.status.success(), "{}", error_of(&enrolled));
        device.configure("[wake]\nport = 0\n");
    }
    let agents = [site.agent_process(), quiet.agent_process()];
    let mut program = Program::connect(&site);
    for batch in 0..20_u32 {
        let messages: Vec<_> = (0..100_u32)
            .map(|number| format!("{}{}", 1_000 + batch * 100 + number, "x".repeat(800)))
            .collect();
        program.emit("info", &messages);
    }
    let reasons = || site.shown()["reasons"].to_string();
    eventually("it is a reason of its status", || reasons().contains("it sends more events than it may"));
    let why = site.ctl_json(&["device", "why", "kiosk"]);
    assert!(why["text"].as_str().unwrap().contains("journal.device_rate"), "{why}");
    assert!(why["facts"]["events_held"].is_string(), "{why}");
    let problems = || site.status()["problems"].to_string();
    eventually("the device says so", || problems().contains("more events than the server takes of one"));
    site.sync();
    assert!(quiet.emit("info", "in between").status.success());
    quiet.wait_until_confirmed();
    assert!(!site.is_confirmed());
    eventually("everything is confirmed", || site.is_confirmed());
    eventually("the reason goes", || !reasons().contains("more events"));
    assert!(!problems().contains("more events"));
    let log = site.log("agent.log");
    assert_eq!(log.matches("has sent more events than the server takes").count(), 1, "{log}");
    agents.into_iter().for_each(|agent| assert!(agent.end().success()));
    assert!(server.end().success());
    let numbers: Vec<u32> = stored(&site)
        .into_iter()
        .filter(|(_, message)| message.len() > 800)
        .map(|(_, message)| message[..4].parse().unwrap())
        .collect();
    assert!(numbers.into_iter().eq(1_000..3_000), "each once, in their order");
}
