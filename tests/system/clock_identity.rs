//! Real processes in 1970 and in 2100: no certificate and no ticket depends on a clock that is right. Without
//! libfaketime the tests say so and pass.

use std::time::Duration;

use crate::clock_steps::FakeClock;
use crate::kit::{Site, error_of, eventually, now};

/// The first of January 2100.
const YEAR_2100_SECONDS: i64 = 4_102_444_800;

/// An hour after the beginning of time (POSIX), as a machine without a battery has it.
const YEAR_1970_SECONDS: i64 = 3_600;

const YEARS: [i64; 2] = [YEAR_1970_SECONDS, YEAR_2100_SECONDS];

/// Sets the clock to this time.
fn set(clock: &FakeClock, seconds: i64) {
    clock.set(seconds - i64::try_from(now().0 / 1_000).unwrap());
}

fn is_synced(site: &Site) -> bool {
    site.agent(&["sync"]).status.success()
}

#[test]
fn a_device_in_1970_or_2100_enrols_syncs_delivers_and_renews() {
    for year in YEARS {
        let site = Site::new();
        let Some(clock) = FakeClock::of(&site, "agent.clock") else { return };
        set(&clock, year);
        let server = site.serve(Duration::from_secs(4));
        let (address, token) = (site.address.to_string(), site.token());
        let arguments = ["enroll", "--server", &address, "--name", "kiosk", "--token", &token];
        let enrolled = site.agent_command(&arguments).envs(clock.environment()).output().unwrap();
        assert!(enrolled.status.success(), "{year}: {}", error_of(&enrolled));
        for _ in 0..2 {
            // The second time with what is on the disk, and with a ticket of the first.
            let agent = site.agent_process_with(&clock.environment());
            eventually(&format!("it syncs in {year}"), || is_synced(&site));
            assert!(site.emit("info", "hello").status.success());
            site.wait_until_confirmed();
            let certificate = site.certificate_number();
            eventually(&format!("it renews in {year}"), || {
                site.agent(&["sync"]);
                site.certificate_number() > certificate
            });
            assert!(agent.end().success());
        }
        // From here on its certificate lasts.
        server.drain().unwrap();
        let server = site.serve(Duration::from_secs(365 * 86_400));
        let agent = site.agent_process_with(&clock.environment());
        eventually("its clock is a reason of its status, and nothing else", || {
            site.agent(&["sync"]);
            let reasons = site.shown()["reasons"].as_array().unwrap().clone();
            reasons.len() == 1 && reasons[0].to_string().contains("its clock is")
        });
        // Its clock is put right: nothing else has to be.
        clock.set(0);
        eventually("it syncs now", || is_synced(&site) && site.shown()["status"] == "ok");
        assert!(agent.end().success());
        server.drain().unwrap();
    }
}

/// The certificates and tickets of a server that was first started with a wrong clock are good when it is
/// right, and so are those that it issued to devices.
#[test]
fn a_server_first_started_in_1970_or_2100_is_the_same_when_its_clock_is_right() {
    for year in YEARS {
        let site = Site::new();
        let Some(clock) = FakeClock::of(&site, "server.clock") else { return };
        set(&clock, year);
        let server = site.server_with(&[], &clock.environment());
        let pin = std::fs::read(site.path("server/identity/server-certificate.pem")).unwrap();
        let enrolled = site.enroll(&site.token());
        assert!(enrolled.status.success(), "{year}: {}", error_of(&enrolled));
        let agent = site.agent_process();
        eventually(&format!("it syncs in {year}"), || is_synced(&site));
        // Put right while it runs, and then once more at a start.
        clock.set(0);
        eventually("the server notices", || !site.events("muster", "clock").is_empty());
        eventually("it syncs when the clock is right", || is_synced(&site));
        assert!(server.end().success());
        let server = site.server();
        eventually("it syncs with the next server", || is_synced(&site));
        assert!(agent.end().success());
        let agent = site.agent_process();
        eventually("it syncs without a ticket", || is_synced(&site));
        // Another device comes in, with a token of the right time.
        let other = Site::at(site.address);
        let enrolled = other.enroll(&site.token());
        assert!(enrolled.status.success(), "{year}: {}", error_of(&enrolled));
        let now_there = std::fs::read(site.path("server/identity/server-certificate.pem")).unwrap();
        assert_eq!(pin, now_there, "nothing was made anew");
        assert!(agent.end().success());
        assert!(server.end().success());
    }
}
