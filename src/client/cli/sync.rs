//! `musterctl device sync`, and the call behind `musterctl device show --now`.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::arguments::DeviceSync;
use super::output::Output;
use super::{Failure, device};
use crate::client::{Client, ClientError};
use crate::wire::api::{CallLine, CallOutcome, CallRequest, CalledDevice};
use crate::wire::units::{count, count_that};

/// Devices that are all listed: a screen or two. Of more only those are listed that did not sync.
const LISTED_DEVICES_MAX: u64 = 50;

/// Devices from which on progress is shown: of one, its outcome is all there is to see.
const PROGRESS_DEVICES_MIN: u64 = 2;

const HEADS: &[&str] = &["DEVICE", "OUTCOME"];

pub(super) fn run(client: &mut Client, output: &mut Output, sync: DeviceSync) -> Result<(), Failure> {
    if let Some(filter) = &sync.filter
        && !sync.yes
        && output.may_ask()
    {
        device::confirm_approved(client, output, filter, "called")?;
    }
    let request = CallRequest {
        devices: sync.devices,
        group: sync.group,
        filter: sync.filter,
        all: sync.all,
        is_fresh: sync.fresh,
        wait: sync.wait,
        timeout_seconds: Some(sync.timeout),
    };
    let mut lines = client.sync(&request)?;
    let Some(CallLine::Called { devices: called }) = lines.next().transpose()? else {
        return Err(ClientError::NotUnderstood("the first line does not say who is called".into()).into());
    };
    if !request.wait {
        if output.is_json {
            return output.json(&json!({ "called": called }));
        }
        return output.line(&format!(
            "{} called; --wait shows what becomes of them, 'musterctl device list' when they synced",
            count_that(called, "device", "is", "are")
        ));
    }
    if output.is_json {
        return stream(output, lines, called);
    }
    let bar = progress(called);
    let mut listed = Vec::new();
    let (mut synced, mut failed) = (0, 0);
    for line in lines {
        match line? {
            CallLine::Called { .. } => {}
            CallLine::Device(device) => {
                bar.inc(1);
                let is_listed = called <= LISTED_DEVICES_MAX || !device.outcome.is_synced();
                listed.extend(is_listed.then_some(device));
            }
            CallLine::Done { synced: in_sync, failed: others } => (synced, failed) = (in_sync, others),
        }
    }
    bar.finish_and_clear();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    if !listed.is_empty() {
        output.list(HEADS, std::iter::once(Ok(listed)), "", row)?;
    }
    if called > LISTED_DEVICES_MAX {
        output.line(&format!("{synced} of {} synced", count(called, "device")))?;
    } else if called == 0 {
        output.line("no devices there: nobody was called")?;
    }
    judge(failed, called)
}

/// The outcomes as one JSON array, as they come.
fn stream(
    output: &mut Output,
    lines: impl Iterator<Item = Result<CallLine, ClientError>>,
    called: u64,
) -> Result<(), Failure> {
    let mut failed = 0;
    let pages = lines.filter_map(|line| match line {
        Ok(CallLine::Device(device)) => Some(Ok(vec![device])),
        Ok(CallLine::Done { failed: others, .. }) => {
            failed = others;
            None
        }
        Ok(CallLine::Called { .. }) => None,
        Err(error) => Some(Err(error)),
    });
    output.list(HEADS, pages, "", row)?;
    judge(failed, called)
}

/// Has one device look at itself and sync; what became of that.
pub(super) fn retrieve(
    client: &mut Client,
    device: &str,
    timeout_seconds: u32,
) -> Result<CallOutcome, ClientError> {
    let request = CallRequest {
        devices: vec![device.to_owned()],
        is_fresh: true,
        wait: true,
        timeout_seconds: Some(timeout_seconds),
        ..CallRequest::default()
    };
    let mut outcome = CallOutcome::TimedOut;
    for line in client.sync(&request)? {
        if let CallLine::Device(device) = line? {
            outcome = device.outcome;
        }
    }
    Ok(outcome)
}

fn row(device: &CalledDevice) -> Vec<String> {
    vec![device.name.clone(), device.outcome.to_string()]
}

fn judge(failed: u64, called: u64) -> Result<(), Failure> {
    match (failed, called) {
        (0, _) => Ok(()),
        (_, 1) => {
            Err(Failure::NotReached("the device did not sync; 'musterctl device why NAME' explains".into()))
        }
        _ => Err(Failure::NotReached(format!(
            "{failed} of {} did not sync; 'musterctl device why NAME' explains",
            count(called, "device")
        ))),
    }
}

/// On standard error, so that what is on standard output can be read by a program; nowhere when that is no
/// terminal.
fn progress(devices: u64) -> ProgressBar {
    if devices < PROGRESS_DEVICES_MIN || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(devices), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} devices, {elapsed} of waiting");
    let bar = ProgressBar::new(devices);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}
