//! People who look at the console meanwhile: each follows the events in one tab, and has another one that is
//! loaded again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster::client::{Address, Client, ClientError};
use muster::wire::api::NewApiToken;
use muster::wire::role::Role;

use super::stage::{Stage, float};
use crate::failure::Failure;

/// The tab that renews itself.
const PAGE: &str = "/";

/// Interval at which it does in each console, as the console's own module has it. One connection does it for
/// all: a browser has one for all of its tabs, in HTTP/2.
const PAGE_INTERVAL: Duration = Duration::from_secs(3);

/// The tab with events that come by themselves.
const EVENTS: &str = "/events/live";

/// Nice value of what stands for browsers, above the devices' (sched(7): on Linux it is the thread's).
const BROWSER_NICE: i32 = 10;

/// Time of the port to open, which it does with the first API token.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// Open consoles. They close when this value goes.
pub(super) struct Consoles {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<Result<(), ClientError>>>,
    opened_at: Instant,
}

#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    event_bytes: AtomicU64,
    pages: AtomicU64,
}

impl Consoles {
    /// Opens this many, over TLS.
    pub(super) fn open(stage: &mut Stage, count: usize) -> Result<Self, Failure> {
        let mut root = stage.subject.client()?;
        let new = NewApiToken {
            name: "consoles".to_owned(),
            role: Role::Administrator,
            group: None,
            ttl_seconds: Some(3_600),
        };
        let token = root.create_api_token(&new).map_err(Failure::refused)?.token;
        let token = token.parse().map_err(Failure::refused)?;
        let opening = Instant::now();
        let address = loop {
            match root.status().map_err(Failure::refused)?.administration {
                Some(address) => break address,
                None if opening.elapsed() > OPENING_MAX => {
                    return Err(Failure::refused("the administrators' port does not open"));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let address: Address = address.parse().map_err(Failure::refused)?;
        let mut open = Self { seen: Arc::default(), threads: Vec::new(), opened_at: Instant::now() };
        let interval = PAGE_INTERVAL.div_f64(float(count as u64));
        for number in 0..=count {
            let mut client = Client::new(address.clone()).map_err(Failure::refused)?;
            client.sign_in(&token);
            let seen = Arc::clone(&open.seen);
            open.threads.push(std::thread::spawn(move || {
                // The browsers' work is other machines': here it must not stand in the way of the devices'.
                let _ = rustix::process::nice(BROWSER_NICE);
                match number {
                    0 => seen.reload(&mut client, interval),
                    _ => seen.follow(&mut client),
                }
            }));
        }
        Ok(open)
    }

    /// Closes them, and says what they saw.
    pub(super) fn close(mut self, stage: &mut Stage) -> Result<(), Failure> {
        let seconds = self.opened_at.elapsed().as_secs_f64();
        self.seen.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(seen) => seen.map_err(Failure::refused)?,
                Err(_) => return Err(Failure::refused("a console has panicked")),
            }
        }
        let pages = float(self.seen.pages.load(Ordering::Relaxed));
        let bytes = float(self.seen.event_bytes.load(Ordering::Relaxed));
        stage.figure("consoles_pages_per_second", "consoles: pages a second", pages / seconds);
        stage.figure(
            "consoles_event_bytes_per_second",
            "consoles: bytes of events a second",
            bytes / seconds,
        );
        Ok(())
    }
}

impl Drop for Consoles {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    fn follow(&self, client: &mut Client) -> Result<(), ClientError> {
        for piece in client.read(EVENTS)? {
            self.event_bytes.fetch_add(piece?.len() as u64, Ordering::Relaxed);
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    fn reload(&self, client: &mut Client, interval: Duration) -> Result<(), ClientError> {
        while !self.is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            for piece in client.read(PAGE)? {
                piece?;
            }
            self.pages.fetch_add(1, Ordering::Relaxed);
            while begun.elapsed() < interval && !self.is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}
