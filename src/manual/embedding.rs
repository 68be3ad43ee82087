//! muster within a program of your own: the agent in a device's firmware, the server in an appliance.
//!
//! # The agent
//!
//! [`Agent`](crate::Agent) is the loop of `muster-agent run` in a thread of its own. In `Cargo.toml`:
//! `musterd = { …, default-features = false, features = ["agent"] }`; that is the agent without command line,
//! log and signals.
//!
//! ```no_run
//! use std::sync::atomic::{AtomicI64, Ordering};
//! use muster::{Agent, Application, Condition, NewEvent, Severity, StopReason, TaskEnd};
//!
//! static TARGET: AtomicI64 = AtomicI64::new(20);
//!
//! fn main() -> Result<(), muster::AgentError> {
//!     let schema = r#"{"type": "object", "properties": {"celsius": {"type": "integer", "maximum": 60}}}"#;
//!     let pump = Application::new("heatpump", "2.1.0")
//!         .condition(|| (Condition::Running, String::new()))
//!         .statistic("flow_temperature", "°C", || Some(35.5))
//!         .settings(schema, |settings| {
//!             let settings: serde_json::Value =
//!                 serde_json::from_str(settings).map_err(|error| error.to_string())?;
//!             let celsius = settings["celsius"].as_i64().ok_or("celsius is missing")?;
//!             TARGET.store(celsius, Ordering::Relaxed);
//!             Ok(())
//!         })
//!         .task("defrost", r#"{"type": "object"}"#, |task| {
//!             for percent in 0..100 {
//!                 if task.is_cancelled() {
//!                     break;
//!                 }
//!                 task.progress(percent, "melting");
//!             }
//!             TaskEnd { exit_code: 0, output: b"no ice left".to_vec() }
//!         });
//!     let agent = Agent::builder("/data/muster").application(pump).spool_mebibytes(1).build()?;
//!     if !agent.is_enrolled()? {
//!         agent.enroll("muster.example.org", "muster1-…")?;
//!     }
//!     let agent = agent.start()?;
//!     agent.emit(&NewEvent::new("heatpump", Severity::Info, "started", "after a power cut"))?;
//!     agent.stop(StopReason::Shutdown)
//! }
//! ```
//!
//! | the program says | the server sees |
//! |---|---|
//! | [`Application::new`](crate::Application::new) | an installed application of this version, to which policies and tasks can be given |
//! | [`condition`](crate::Application::condition), [`statistic`](crate::Application::statistic) | its state and its numbers, asked once a minute and before a sync that somebody wants |
//! | [`settings`](crate::Application::settings) | whether settings are in force, or the reason why the program refuses them; it gets those in force again after each start, and need keep none |
//! | [`task`](crate::Application::task) | a kind of task; progress, exit code and output of its runs. One that the end of the process interrupts has failed as `interrupted` |
//! | [`task_with_artifact`](crate::Application::task_with_artifact) | one whose runs come with a file, at [`Task::artifact`](crate::Task::artifact) until the function returns |
//! | [`emit`](crate::RunningAgent::emit) | an event, once; when the call returns it survives a power cut |
//! | [`stop`](crate::RunningAgent::stop) | that the device is off, starts again, or is without its agent: not lost |
//!
//! Functions for conditions, numbers and settings are called in threads of the agent with a stack of 256 KiB.
//! One that has not come back within 20 s (settings: a minute) is told as hanging, and not called again
//! before it has; the agent goes on without it. A panic in one is the refusal of settings, the failure of a
//! task, a failed condition. A task can't be ended from outside: it should look at
//! [`is_cancelled`](crate::Task::is_cancelled) now and then.
//!
//! It keeps to itself. It writes nowhere but in its directory, which is locked (flock(2)), and listens on no
//! socket but the UDP port of wakes ([`wake_port`](crate::AgentBuilder::wake_port), 15000). It catches no
//! signal, starts no program, reads no configuration and none of the system's package databases, ends no
//! process, sets no panic hook and no logger: its lines go to that of the program (crate `log`), if it has
//! one. Several agents may run in one process, each with a directory and a wake port of its own.
//!
//! # The server
//!
//! [`Server`](crate::Server) is `musterd` without command line, log and signals, in threads of its own:
//!
//! ```
//! use std::time::Duration;
//! use muster::api::{DeviceQuery, FollowLine, NewToken};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let mut config = muster::Config::in_directory(directory.path());
//! config.listen = "127.0.0.1:0".parse()?;
//! let server = muster::Server::start(config)?;
//! let token = server.create_token(NewToken { uses: Some(20), ..NewToken::default() })?;
//! assert!(token.token.starts_with("muster1-"));
//! for device in server.devices(DeviceQuery::default()) {
//!     println!("{}", device?.name);
//! }
//! let mut events = server.subscribe(None)?;
//! while let Some(line) = events.next_within(Duration::from_millis(10))? {
//!     match line {
//!         FollowLine::Event(event) => println!("{:?}: {}", event.device, event.message),
//!         FollowLine::Gone { from, to } => println!("deleted before it was read: {from} to {to}"),
//!         _ => {}
//!     }
//! }
//! println!("go on here after a restart: {}", events.position());
//! server.drain()?;
//! # Ok(())
//! # }
//! ```
//!
//! A subscription reads the journal: it holds 128 events at most, and one that is slow is behind, not full.
//! Everything else that administrators can do is at [`Server::admin_socket`](crate::Server::admin_socket),
//! with [`Client`](crate::Client). Failures have types ([`ServerError`](crate::ServerError)); one that ends a
//! running server is told by [`Server::failures`](crate::Server::failures). A `Config` is read from the file,
//! or filled in by the program.
//!
//! Several servers may run in one process, each with a directory and addresses of its own. Of the process
//! none changes anything: no signal is caught, no limit raised, no allocator set, no hook and no logger set,
//! unless [`Config::process`](crate::Config::process) says so, as `musterd` does.
//!
//! # In C, and in whatever calls C
//!
//! `tools/ffi` is the same for C: `tools/ffi/muster.h`, fifteen functions, and a library of each kind.
//!
//! ```sh
//! cargo build --profile dist -p muster-ffi
//! cc -I tools/ffi -o heatpump tools/examples/heatpump.c target/dist/libmuster_embed.a -lpthread -ldl -lm
//! ```
//!
//! `tools/examples/heatpump.c` is a heat pump, whole; `heatpump.py` is one by way of ctypes, with
//! `libmuster_embed.so`. Texts have lengths; a result that is not `MUSTER_OK` has its words in
//! `muster_agent_error`. No panic crosses: it is the result `MUSTER_PANIC`. In threads of the agent all
//! signals are blocked: those are the program's, and a server that goes away raises no SIGPIPE.
//! `muster_agent_free` returns when none of the program's functions is being called any more; tasks are told
//! to end (`muster_task_is_cancelled`). A function that is C++ must not throw.
//!
//! Its tests watch the memory of the example with AddressSanitizer and LeakSanitizer. valgrind needs one
//! thing changed: rustix reads the kernel's vdso(7) by itself, which valgrind has hidden, and the program
//! ends with SIGSEGV. Its feature `use-libc-auxv` asks the C library instead: `rustix = { version = "1",
//! features = ["use-libc-auxv"] }` among the dependencies of `tools/ffi/Cargo.toml`, or of a program in Rust.
//! With that the example enrolled, synced, took and refused settings, ran a task, delivered an event and was
//! switched off under `valgrind --leak-check=full`: no error, nothing lost (valgrind 3.19, x86_64, not
//! optimised). A handshake takes about ten seconds there, so the server's `handshake_deadline` has to be
//! longer.
//!
//! For a device with 32 bits and musl, `tools/package/zig`'s compilers build the library as
//! `tools/package/static armv7` builds programs, its variables included ([`packages`](super::packages)), and
//! link it:
//!
//! ```text
//! python -m ziglang cc -target arm-linux-musleabihf -mcpu=generic+v7a+vfp3-d32+thumb2-neon -Os -static -I tools/ffi \
//!     -o heatpump tools/examples/heatpump.c libmuster_embed.a -Wl,--gc-sections -lunwind
//! ```
//!
//! The example is one static file of 3.7 MB then, agent and TLS included. Under qemu-arm it did at a server
//! of x86_64 what it does under valgrind (2026-11-30); on a device of that kind it has not been tried.
//!
//! # On a small device
//!
//! The example in C is held to this by its tests (`tools/ffi/tests/examples.rs`), as the agent of a heat pump
//! with one writable directory of 8 MB:
//!
//! | | |
//! |---|---|
//! | private memory that was written to, after a day's syncs and 96 events | at most 4 MiB; 1.5 MiB on x86_64 |
//! | writes to the medium on an idle day of 96 syncs | none |
//! | the directory, with `spool_mebibytes` 1 | at most 4 MiB of events; the oldest of a severity go when its share is used up, and the server is told how many |
//! | somebody else fills it | events are refused, with a reason; the device is served, and shown as failed: its disk is full. When there is room, events are taken again |
//! | a kill or a power cut, wherever | each event for which `emit` returned arrives once; identity and state are the old or the new ones |
