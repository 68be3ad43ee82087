//! `musterctl certificate`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::Failure;
use super::output::{Output, time};
use crate::client::Client;
use crate::wire::api::{
    CertificateChange, CertificateStage, CertificateStatus, CertificateStep, MISSING_NAMES_MAX,
    READY_PERCENT_DEFAULT,
};
use crate::wire::units::count;

/// Most that is read of a key's file: a key in PEM has 120 bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Subcommand, Debug)]
pub(super) enum CertificateCommand {
    /// The server's certificate, how far its rotation is, and which devices are ready for it
    #[command(after_help = "Examples:
  musterctl certificate status
  musterctl certificate status --json | jq '.ready / .devices'
  musterctl device list --pins missing")]
    Status,
    /// Make the next key, and have devices store its pin with their next syncs
    #[command(after_help = "Examples:
  musterctl certificate prepare --recovery-key-file /media/safe/recovery-key.pem
  musterctl certificate prepare

With the recovery key, which is used once and not kept, devices that are away until the former certificate is retired
come back all the same. Without it those must be visited.")]
    Prepare {
        /// The recovery key, as 'musterd recovery-key create' printed it; '-': standard input
        #[arg(long, value_name = "FILE")]
        recovery_key_file: Option<PathBuf>,
    },
    /// Put the next key into use; the former one stays pinned, and vouches for it
    #[command(after_help = "Examples:
  musterctl certificate switch
  musterctl certificate switch --share 95")]
    Switch(Share),
    /// Let the former key, and a former secret of datagrams, go
    #[command(after_help = "Examples:
  musterctl certificate retire

A server that is restored from a backup of before the switch is not known to devices after this: they come back by the
recovery key ('musterd recovery-key use').")]
    Retire(Share),
    /// Draw another secret of datagrams; the former one is heard until 'retire'
    #[command(after_help = "Examples:
  musterctl certificate rotate-secret")]
    RotateSecret,
}

#[derive(Args, Debug)]
pub(super) struct Share {
    /// Share of the devices that must be ready or come back by the recovery key, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = READY_PERCENT_DEFAULT, value_parser = clap::value_parser!(u8).range(0..=100))]
    share: u8,
    /// Do it whatever devices it loses
    #[arg(long)]
    force: bool,
}

pub(super) fn run(
    client: &mut Client,
    output: &mut Output,
    command: CertificateCommand,
) -> Result<(), Failure> {
    let asked = |step| CertificateChange { step, recovery_key: None, ready_percent: None, force: false };
    let shared = |step, share: Share| {
        let mut change = asked(step);
        (change.ready_percent, change.force) = (Some(share.share), share.force);
        change
    };
    let change = match command {
        CertificateCommand::Status => {
            let status = client.certificate()?;
            return if output.is_json { output.json(&status) } else { show(output, &status) };
        }
        CertificateCommand::Prepare { recovery_key_file } => {
            let mut change = asked(CertificateStep::Prepare);
            change.recovery_key = recovery_key_file.as_deref().map(read_key).transpose()?;
            change
        }
        CertificateCommand::Switch(share) => shared(CertificateStep::Switch, share),
        CertificateCommand::Retire(share) => shared(CertificateStep::Retire, share),
        CertificateCommand::RotateSecret => asked(CertificateStep::RotateSecret),
    };
    let step = change.step;
    output.answer(&client.change_certificate(&change)?, |status| said(step, status))
}

fn read_key(path: &Path) -> Result<String, Failure> {
    let is_standard_input = path.as_os_str() == "-";
    let name = if is_standard_input { "standard input".into() } else { path.display().to_string() };
    let mut text = Zeroizing::new(String::new());
    let read = if is_standard_input {
        std::io::stdin().take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    Ok(std::mem::take(&mut *text))
}

fn said(step: CertificateStep, status: &CertificateStatus) -> String {
    let devices = count(status.devices, "device");
    match step {
        CertificateStep::Prepare => {
            let away = if status.is_next_vouched {
                "Devices that are away until then come back by the recovery key."
            } else if status.recovery_sha256.is_some() {
                "Devices that are away until the former one is retired must be visited: prepare again with --recovery-key-file, \
                 and they come back by themselves."
            } else {
                "There is no recovery key: devices that are away until the former one is retired must be visited. \
                 'musterd recovery-key create' makes one; wait until devices know it, and prepare again with it."
            };
            format!(
                "The next certificate is prepared; the next syncs bring its pin to {devices}. 'musterctl certificate status' \
                 says how many have it, 'certificate switch' comes next. {away}"
            )
        }
        CertificateStep::Switch => format!(
            "The server shows certificate {} now. The former one stays pinned, and join tokens that name it are good, until \
             'musterctl certificate retire'.",
            status.current_sha256
        ),
        CertificateStep::Retire => "The former certificate is gone. Backups from before the switch need the recovery key from now on \
             ('musterd recovery-key use'), and join tokens from before it are of no use any more."
            .to_owned(),
        CertificateStep::RotateSecret => format!(
            "The server has another secret of datagrams; the next syncs bring the keys to {devices}. The former one is \
             heard until 'musterctl certificate retire'."
        ),
    }
}

fn show(output: &mut Output, status: &CertificateStatus) -> Result<(), Failure> {
    let since = |at| if let Some(at) = at { format!(" (since {} UTC)", time(at)) } else { String::new() };
    let mut facts = vec![
        (
            "stage",
            match status.stage {
                CertificateStage::Current => "no rotation is under way".to_owned(),
                CertificateStage::Prepared => {
                    format!("the next one is prepared{}", since(status.prepared_at))
                }
                CertificateStage::Switched => {
                    format!("switched{}, the former one is still pinned", since(status.switched_at))
                }
            },
        ),
        ("current", status.current_sha256.clone()),
    ];
    facts.extend(status.next_sha256.clone().map(|hash| ("next", hash)));
    facts.extend(status.former_sha256.clone().map(|hash| ("former", hash)));
    facts.extend(status.files_sha256.clone().map(|hash| ("shown in front ([tls])", hash)));
    facts.push((
        "recovery key",
        match &status.recovery_sha256 {
            None => "none: make one with 'musterd recovery-key create'".to_owned(),
            Some(hash) => {
                let vouches = match (status.is_next_vouched, status.is_vouched) {
                    (true, _) => ", vouches for the next certificate",
                    (false, true) => ", vouches for the current certificate",
                    (false, false) => "",
                };
                format!("{hash}{}{vouches}", since(status.recovery_since))
            }
        },
    ));
    if status.has_former_secret {
        facts.push(("secret of datagrams", "new; the former one is still heard".to_owned()));
    }
    let share = (status.ready * 100).checked_div(status.devices).unwrap_or(100);
    facts.push(("devices ready", format!("{} of {} ({share} %)", status.ready, status.devices)));
    if status.recoverable > 0 {
        facts.push(("come back by the recovery key", status.recoverable.to_string()));
    }
    let missing = status.devices.saturating_sub(status.ready + status.recoverable);
    if missing > 0 {
        let more = if missing > MISSING_NAMES_MAX as u64 { ", …" } else { "" };
        facts.push(("not ready", format!("{missing}: {}{more}", status.missing.join(", "))));
    }
    output.facts(facts)
}
