//! The devices' trust in this server: told to them when it changes, and the steps of a rotation, of which
//! none is taken that would lose devices unless an administrator forces it.

use std::sync::Arc;

use super::ServerError;
use super::identity::{Identity, IdentityError, StageError, Step, TrustFacts};
use super::presence::{Announcer, own_event};
use super::presented::Presented;
use crate::admin::{CertificateError, Certificates, DeviceNotifier};
use crate::reactor::Clock;
use crate::store::table::SHARDS;
use crate::store::{Store, StoreError, TrustCounts};
use crate::wire::api::{
    CertificateChange, CertificateStage, CertificateStatus, CertificateStep, MISSING_NAMES_MAX,
    READY_PERCENT_DEFAULT, RecoveryKey, Timestamp,
};
use crate::wire::certificate::key_hash;
use crate::wire::event::Severity;
use crate::wire::id::CertificateHash;
use crate::wire::time::WallTime;

/// The devices' trust, and the way to change it.
pub(super) struct Trusted {
    pub(super) identity: Arc<Identity>,
    pub(super) presented: Arc<Presented>,
    pub(super) store: Store,
    pub(super) notifier: Arc<dyn DeviceNotifier>,
    pub(super) announcer: Announcer,
    pub(super) clock: Clock,
}

impl From<IdentityError> for CertificateError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Stage(error @ (StageError::NoKey | StageError::WrongRecoveryKey)) => {
                Self::Invalid(error.to_string())
            }
            IdentityError::Stage(error) => Self::Refused(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<StoreError> for CertificateError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

fn stage_of(facts: &TrustFacts) -> CertificateStage {
    match (facts.next, facts.former) {
        (Some(_), _) => CertificateStage::Prepared,
        (None, Some(_)) => CertificateStage::Switched,
        (None, None) => CertificateStage::Current,
    }
}

impl Trusted {
    /// The server starts.
    pub(super) fn begin(&self) -> Result<(), ServerError> {
        let facts = self.identity.trust_facts();
        Ok(self.store.devices().begin_trust(facts.label, facts.prepared_at)?)
    }

    /// The identity has changed: the server shows itself anew, and the devices that are here are told, paced
    /// over the fleet; the others hear of it when they come.
    fn spread(&self) -> Result<(), CertificateError> {
        self.presented.refresh().map_err(|error| CertificateError::Failed(error.to_string()))?;
        let (facts, table) = (self.identity.trust_facts(), self.store.table());
        self.store.devices().begin_trust(facts.label, facts.prepared_at)?;
        let mut here = Vec::new();
        for shard in 0..SHARDS {
            table.for_each_in(shard, |record| {
                if record.link.is_some() && !record.has_trust() {
                    here.push(record.device);
                }
            });
        }
        self.notifier.notify(&here, None);
        Ok(())
    }

    fn say(&self, severity: Severity, kind: &str, message: &str, facts: &TrustFacts) {
        let now = self.clock.now().wall;
        log::info!("{message}");
        let fields = [
            ("certificate", self.identity.certificate_hash().to_string()),
            ("label", format!("{:016x}", facts.label)),
        ];
        self.announcer.say_of_server(&own_event(severity, kind, message.to_owned(), now, fields), now);
    }

    /// Numbers of devices, as far as those that come back by the recovery key alone count: not without its
    /// voucher for the key in question.
    fn counts(&self, facts: &TrustFacts) -> Result<TrustCounts, StoreError> {
        self.store.devices().trust_counts(facts.label, recovery_of(facts))
    }

    /// Refuses a step after which too many devices could not come back.
    fn check_share(&self, change: &CertificateChange, facts: &TrustFacts) -> Result<(), CertificateError> {
        let percent = change.ready_percent.unwrap_or(READY_PERCENT_DEFAULT);
        if percent > 100 {
            return Err(CertificateError::Invalid(format!(
                "ready_percent is {percent}, it must be from 0 to 100"
            )));
        }
        let counts = self.counts(facts)?;
        let lost = counts.devices.saturating_sub(counts.ready + counts.recoverable);
        if change.force || lost * 100 <= counts.devices * u64::from(100 - percent) {
            return Ok(());
        }
        let names = self.store.devices().without_trust(facts.label, recovery_of(facts), MISSING_NAMES_MAX)?;
        let more = if lost > names.len() as u64 { ", …" } else { "" };
        let when = match change.step {
            CertificateStep::Switch => {
                "they could come back only while the former certificate is not retired, by its voucher"
            }
            _ => "they could not come back",
        };
        Err(CertificateError::Refused(format!(
            "{lost} of {} devices have not stored the server's certificates and do not come back by the recovery key: {when} \
             ({}{more}). Wait until they have synced, prepare with the recovery key (--recovery-key-file), or force it (--force)",
            counts.devices,
            names.join(", ")
        )))
    }
}

/// Labels of devices that come back by the recovery key.
fn recovery_of(facts: &TrustFacts) -> &[u64] {
    let is_vouched = if facts.next.is_some() { facts.is_next_vouched } else { facts.is_vouched };
    if is_vouched && facts.recovery.is_some() { &facts.recovery_labels } else { &[] }
}

impl Certificates for Trusted {
    fn hash(&self) -> CertificateHash {
        self.identity.certificate_hash()
    }

    fn key_pins(&self) -> Vec<[u8; 32]> {
        let shown = self.presented.shown_to_administrators();
        let next = self.identity.trust_facts().next;
        // A certificate of files stays when the server's own key is another.
        let pins = self.identity.pins();
        let next = pins.iter().filter(|pin| Some(CertificateHash::of(pin)) == next);
        shown.iter().chain(next).filter_map(|certificate| key_hash(certificate)).collect()
    }

    fn stage(&self) -> CertificateStage {
        stage_of(&self.identity.trust_facts())
    }

    fn tls_files_until(&self) -> Option<WallTime> {
        self.presented.files_until()
    }

    fn status(&self) -> Result<CertificateStatus, CertificateError> {
        let facts = self.identity.trust_facts();
        let counts = self.counts(&facts)?;
        let text = |hash: Option<CertificateHash>| hash.map(|hash| hash.to_string());
        Ok(CertificateStatus {
            stage: stage_of(&facts),
            current_sha256: self.identity.certificate_hash().to_string(),
            next_sha256: text(facts.next),
            prepared_at: facts.prepared_at.map(Timestamp),
            former_sha256: text(facts.former),
            switched_at: facts.switched_at.map(Timestamp),
            recovery_sha256: text(facts.recovery),
            recovery_since: facts.recovery_since.map(Timestamp),
            is_vouched: facts.is_vouched,
            is_next_vouched: facts.is_next_vouched,
            has_former_secret: facts.has_former_secret,
            files_sha256: text(self.presented.of_files()),
            label: format!("{:016x}", facts.label),
            devices: counts.devices,
            ready: counts.ready,
            recoverable: counts.recoverable,
            missing: self.store.devices().without_trust(
                facts.label,
                recovery_of(&facts),
                MISSING_NAMES_MAX,
            )?,
        })
    }

    fn change(&self, change: &CertificateChange) -> Result<CertificateStatus, CertificateError> {
        let before = self.identity.trust_facts();
        let step = match change.step {
            CertificateStep::Prepare => Step::Prepare(change.recovery_key.as_deref()),
            CertificateStep::Switch if before.next.is_some() => {
                self.check_share(change, &before)?;
                Step::Switch
            }
            CertificateStep::Switch => Step::Switch,
            CertificateStep::Retire => {
                if before.former.is_some() {
                    self.check_share(change, &before)?;
                }
                Step::Retire
            }
            CertificateStep::RotateSecret => Step::RotateSecret,
        };
        self.identity.take(&step, self.clock.now().wall)?;
        let facts = self.identity.trust_facts();
        let (kind, message) = match change.step {
            CertificateStep::Prepare => (
                "certificate_prepared",
                "the next certificate of the server is prepared: devices store its pin with their next syncs",
            ),
            CertificateStep::Switch => (
                "certificate_switched",
                "the server shows its next certificate from now on; the former one stays pinned until it is retired",
            ),
            CertificateStep::Retire => (
                "certificate_retired",
                "the former certificate and secret of the server are not trusted any more",
            ),
            CertificateStep::RotateSecret => (
                "secret_rotated",
                "the server has another secret of datagrams: devices store their keys with their next syncs",
            ),
        };
        self.say(Severity::Info, kind, message, &facts);
        self.spread()?;
        self.status()
    }

    fn create_recovery_key(&self) -> Result<RecoveryKey, CertificateError> {
        let made = self.identity.create_recovery_key(self.clock.now().wall)?;
        let facts = self.identity.trust_facts();
        let message = "a recovery key was made: devices store its pin with their next syncs";
        self.say(Severity::Info, "recovery_key_created", message, &facts);
        self.spread()?;
        Ok(RecoveryKey { private_key: made.to_string() })
    }
}
