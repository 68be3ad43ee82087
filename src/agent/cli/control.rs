//! `muster-agent emit`, `status`, `sync` and `notice`: what is asked of the running agent, which holds the
//! data directory; when none runs, an event goes into the spool directly.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use serde_json::json;

use super::CommandError;
use super::arguments::{Common, Emit, Notice, NoticeWhat, Status as StatusArguments};
use super::context::Context;
use crate::agent::context::wall_time;
use crate::agent::directory::{Directory, DirectoryError, Lock};
use crate::agent::identity::Identity;
use crate::agent::join;
use crate::agent::local::client::{LocalClient, LocalError};
use crate::agent::local::peer::Peer;
use crate::agent::local::protocol::{CertificateStatus, ReleaseStatus, Request, Status, parse};
use crate::agent::release;
use crate::agent::spool::Spool;
use crate::wire::event::{Event, MENDED_FIELD, NOT_UTF8};
use crate::wire::id::Epoch;
use crate::wire::printable;
use crate::wire::section::ApplicationCondition;
use crate::wire::time::WallTime;

/// Time of the agent's answer: it answers between two turns of its loop.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time of a sync: connecting, an upload on a slow line, a busy server.
pub(super) const SYNC_TIMEOUT: Duration = Duration::from_secs(300);

/// Has the agent sync now.
pub(super) fn sync(common: &Common) -> Result<(), CommandError> {
    let context = Context::or_last_good(common)?;
    LocalClient::connect(&context.socket(), SYNC_TIMEOUT)?.command("sync")?;
    say!("in sync");
    Ok(())
}

/// Tells the agent that the device goes to sleep or has woken up.
pub(super) fn notice(arguments: &Notice) -> Result<(), CommandError> {
    let context = Context::or_last_good(&arguments.common)?;
    let command = match arguments.what {
        NoticeWhat::Suspend => "suspend",
        NoticeWhat::Resume => "resume",
    };
    LocalClient::connect(&context.socket(), ANSWER_TIMEOUT)?.command(command)?;
    Ok(())
}

/// Shows how the agent is doing. When none runs: what the disk knows, and code 1.
pub(super) fn status(arguments: &StatusArguments) -> Result<(), CommandError> {
    let context = Context::or_last_good(&arguments.common)?;
    let asked =
        LocalClient::connect(&context.socket(), ANSWER_TIMEOUT).and_then(|mut client| client.status());
    let (mut status, not_running) = match asked {
        Ok(status) => (status, None),
        Err(error @ (LocalError::NotRunning(_) | LocalError::Ended)) => (offline(&context)?, Some(error)),
        Err(error) => return Err(error.into()),
    };
    status.release = release::status(&context.data);
    if arguments.json {
        say!("{}", printable::json_pretty(&status).unwrap_or_default());
    } else {
        say!("{}", table(&status).trim_end());
    }
    not_running.map_or(Ok(()), |error| Err(error.into()))
}

/// State of a device that enrols by itself.
const WAITING: &str = "waiting_to_enrol";

fn offline(context: &Context) -> Result<Status, CommandError> {
    let identity = Identity::read(&context.data)?;
    let mut status = Status {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        state: if identity.is_some() { "stopped" } else { "not_enrolled" }.to_owned(),
        problems: context.problem.iter().cloned().collect(),
        ..Status::default()
    };
    if let Ok(Some(join)) = join::read(&context.data)
        && identity.is_none()
    {
        status.state = WAITING.to_owned();
        status.server = Some(join.server.to_string());
        status.last_error = join::problem(&context.data);
    }
    if let Some(identity) = identity {
        status.device = Some(identity.device);
        status.name = Some(identity.name.clone());
        status.server = Some(identity.server.clone());
        status.certificate = CertificateStatus::of(&identity);
        status.pins = identity.pin_hashes().iter().map(ToString::to_string).collect();
    }
    Ok(status)
}

/// The status for people: a line each.
pub(super) fn table(status: &Status) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name:<16}{}", printable::escaped(&value.to_string()));
    };
    match (&status.name, status.device) {
        (Some(name), Some(device)) => line("device", &format_args!("{name} ({device})")),
        _ if status.state == WAITING => {
            line(
                "device",
                &"not enrolled yet: 'muster-agent run' enrols it by itself, and tries until it is",
            );
        }
        _ => line("device", &"not enrolled: muster-agent enroll --server HOST --token-file FILE"),
    }
    if let Some(ReleaseStatus { version, on_trial, taken_back }) = &status.release {
        let runs =
            version.as_ref().map(|version| format!("{version}, in the place of the installed program"));
        let tried = on_trial.as_ref().map(|version| format!("{version}, on trial"));
        let failed = taken_back.as_ref().map(|why| format!("the last one was taken back: {why}"));
        for text in [runs, tried, failed].iter().flatten() {
            line("release", text);
        }
    }
    if let Some(server) = &status.server {
        line("server", server);
    }
    if let Some(certificate) = &status.certificate {
        let CertificateStatus { number, key_type, expires_at, renews_at } = certificate;
        line(
            "certificate",
            &format_args!("number {number} ({key_type}), until {expires_at}, is renewed about {renews_at}"),
        );
    }
    for pin in &status.pins {
        line("accepts", &format_args!("certificate {pin}"));
    }
    line("state", &status.state.replace('_', " "));
    for (name, time) in [
        ("connected since", status.connected_since),
        ("last sync", status.last_sync),
        ("next sync", status.next_sync),
    ] {
        if let Some(time) = time {
            line(name, &time);
        }
    }
    if let Some(error) = &status.last_error {
        match status.last_error_at {
            Some(time) => line("last error", &format_args!("{error} (at {time})")),
            None => line("last error", error),
        }
    }
    if let Some(copy) = &status.copy {
        line("copy", copy);
    }
    for problem in &status.problems {
        line("problem", problem);
    }
    for application in &status.applications {
        line("application", &application_line(application));
    }
    for run in &status.runs {
        let percent = run.progress_percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
        let stage = format!("{:?}", run.stage).to_lowercase();
        let value =
            format_args!("{} {}: {stage}{percent} {}", run.application, run.kind, run.message).to_string();
        line("run", &format_args!("{} ({})", value.trim_end(), run.run));
    }
    if let Some(datagrams) = &status.datagrams {
        let port = match datagrams.port {
            0 => "not heard".to_owned(),
            port => format!("heard on UDP port {port}"),
        };
        let last = datagrams.last_wake.map(|time| format!(", last at {time}")).unwrap_or_default();
        line("wakes", &format_args!("{port}, {} taken{last}", datagrams.wakes));
        for dropped in &datagrams.dropped {
            line(
                &format!("  {}", dropped.reason.replace('_', " ")),
                &format_args!("{} dropped", dropped.count),
            );
        }
    }
    if let Some(spool) = &status.spool {
        line(
            "spool",
            &format_args!("{} given out, {} confirmed", spool.highest_sequence, spool.acked_through),
        );
        for severity in &spool.severities {
            let oldest = severity.oldest.map(|time| format!(", oldest of {time}")).unwrap_or_default();
            let dropped =
                if severity.dropped > 0 { format!(", {} dropped", severity.dropped) } else { String::new() };
            let value = format!(
                "{} waiting, {} of {} KiB{oldest}{dropped}",
                severity.events,
                severity.bytes / 1024,
                severity.quota_bytes / 1024
            );
            line(&format!("  {}", severity.severity), &value);
        }
    }
    text
}

/// `nginx 1.22.1: running, settings of revision 7 applied`
fn application_line(application: &ApplicationCondition) -> String {
    let mut text = application.application.clone();
    for piece in [" ", &application.version].iter().filter(|_| !application.version.is_empty()) {
        text.push_str(piece);
    }
    text.push_str(&format!(": {}", application.condition));
    if !application.detail.is_empty() {
        text.push_str(&format!(" ({})", application.detail));
    }
    if let Some(settings) = &application.settings {
        text.push_str(&format!(", settings of revision {} {}", settings.revision, settings.state));
        if settings.applied_revision != settings.revision && settings.applied_revision > 0 {
            text.push_str(&format!(", {} in place", settings.applied_revision));
        }
        if !settings.detail.is_empty() {
            text.push_str(&format!(" ({})", settings.detail));
        }
    }
    text
}

/// The line that hands an event to the agent.
pub(super) fn event_line(arguments: &super::Emit) -> serde_json::Value {
    let text = |text: &OsString| text.to_string_lossy().into_owned();
    let is_text = arguments
        .fields
        .iter()
        .map(|(_, value)| value)
        .chain([&arguments.message])
        .all(|text| text.to_str().is_some());
    let mark = (!is_text).then(|| (MENDED_FIELD.to_owned(), NOT_UTF8.to_owned()));
    // Cut here, so that the line is none that the agent refuses.
    let event = Event {
        severity: arguments.severity,
        application: arguments.application.clone(),
        kind: arguments.kind.clone(),
        message: text(&arguments.message),
        occurred_at: WallTime(0),
        fields: arguments
            .fields
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .chain(mark)
            .collect(),
    };
    let Event { severity, application, kind, message, fields, .. } = event.mended();
    let fields: serde_json::Map<String, serde_json::Value> =
        fields.into_iter().map(|(name, value)| (name, json!(value))).collect();
    json!({
        "application": application,
        "severity": severity.name(),
        "kind": kind,
        "message": message,
        "fields": fields,
    })
}

/// Puts an event into the spool; returns once it is durable there.
pub(super) fn emit(arguments: &Emit) -> Result<(), CommandError> {
    // A program of another user needs nothing but the agent's socket.
    let context = Context::or_last_good(&arguments.common)
        .or_else(|error| Context::of_service(&arguments.common).ok_or(error))?;
    let line = event_line(arguments);
    let Request::Emit { severity, body } =
        parse(line.to_string().as_bytes(), wall_time(), Peer::Owner).map_err(CommandError::usage)?
    else {
        return Err(CommandError::usage("this is no event"));
    };
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let _lock = loop {
        match Holder::find(&context, "an emit", ANSWER_TIMEOUT)? {
            Holder::Agent(mut client) => match client.emit(&line) {
                Ok(sequence) => {
                    say!("event {sequence} is in the spool");
                    return Ok(());
                }
                // It was about to end, and answers what it has taken: the spool is free now, or the next
                // agent listens.
                Err(LocalError::Ended) if Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            },
            Holder::Here(lock) => break lock,
        }
    };
    let mut epoch = [0; 8];
    aws_lc_rs::rand::fill(&mut epoch).map_err(|_| CommandError::refused("the system gives no randomness"))?;
    let epoch = Epoch(u64::from_ne_bytes(epoch) | 1);
    let now = wall_time();
    let directory = Directory::open(&context.data)?;
    let mut spool = Spool::open_directory(&directory.spool(), &context.settings.spool, epoch, now)?;
    let sequence = spool.append(severity, &body, now)?;
    spool.close()?;
    say!("event {sequence} is in the spool; no agent runs, it is sent when one does");
    Ok(())
}

/// Time to wait for a process that holds the data directory without listening: an agent that starts, or an
/// `emit`; and for an agent that is started anew, when its socket is all that this user may use.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of looking again meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Holder of the data directory.
pub(super) enum Holder {
    /// This command, as long as it keeps the lock.
    Here(Lock),
    /// A running agent.
    Agent(LocalClient),
}

impl Holder {
    /// Finds out; waits for one that only passes by. `holder` is what others are told of this command; a
    /// running agent may take `timeout` for each answer. A program that only may speak to the agent needs no
    /// access to the data directory.
    pub(super) fn find(context: &Context, holder: &str, timeout: Duration) -> Result<Self, CommandError> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match LocalClient::connect(&context.socket(), timeout) {
                Ok(client) => return Ok(Self::Agent(client)),
                Err(LocalError::NotRunning(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let is_over = Instant::now() >= deadline;
            match Directory::open(&context.data).and_then(|directory| directory.lock(holder)) {
                Ok(lock) => return Ok(Self::Here(lock)),
                Err(DirectoryError::InUse(..)) if !is_over => {}
                Err(DirectoryError::Io(_, source)) if source.kind() == io::ErrorKind::PermissionDenied => {
                    if is_over {
                        return Err(CommandError::refused(format_args!(
                            "no agent has listened at {} for {} s, and without it only root and the agent's own user can do this: \
                             start the agent",
                            context.socket().display(),
                            TIMEOUT.as_secs()
                        )));
                    }
                }
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}
