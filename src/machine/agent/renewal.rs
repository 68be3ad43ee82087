//! Renewal of the device's certificate: asked for on the link, stored, and proved on the next one
//! ([`credentials`](crate::machine::credentials)).

use super::link::Link;
use super::state::{Action, LinkEnd};
use super::{ANSWER_SECONDS_MAX, AgentMachine};
use crate::machine::credentials::{Credential, Credentials};
use crate::wire::message::{ErrorCode, Renew, Renewed, SyncReason, ToServer};
use crate::wire::time::{Moment, Now};

/// Progress of a renewal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Renewal {
    /// None is under way.
    #[default]
    Idle,
    /// It begins as soon as no sync is under way on the link.
    Wanted,
    /// The caller makes a key and a request.
    Making,
    /// The server was asked.
    Asked { since: Moment },
    /// The caller stores the certificate.
    Storing,
    /// The certificate is stored: the next link shows it.
    Stored,
}

impl AgentMachine {
    /// Whether the certificate before the last renewal is still stored. To be said once, at the start.
    pub fn set_previous_certificate(&mut self, is_stored: bool) {
        self.credentials = Credentials::new(is_stored);
    }

    /// The one of its certificates that the next link shows.
    #[must_use]
    pub fn shown_certificate(&self) -> Credential {
        self.credentials.shown()
    }

    /// The device's key is of another kind than the settings say, or is not any more: with `true` a
    /// certificate for another key is asked for behind the next sync.
    pub fn set_key_outdated(&mut self, is_outdated: bool) {
        self.is_key_outdated = is_outdated;
    }

    /// The answer to [`Action::MakeRequest`]: a PKCS #10 request (RFC 2986), DER.
    pub fn request_made(&mut self, now: &Now, request: Vec<u8>) {
        if self.renewal != Renewal::Making {
            return;
        }
        let mut frame = Vec::new();
        ToServer::Renew(Renew { request }).write_to(&mut frame);
        self.send(now, frame);
        self.renewal = Renewal::Asked { since: now.moment };
    }

    /// The answer to [`Action::StoreCertificate`]: it is durable.
    pub fn certificate_stored(&mut self) {
        self.credentials.stored();
        self.renewal_error = None;
        self.actions.push_back(Action::Show(self.credentials.shown()));
        self.renewal = if self.is_connected() { Renewal::Stored } else { Renewal::Idle };
    }

    /// The renewal came to nothing: no key was made, the certificate could not be stored, or the server
    /// refused. The certificate in use stays, and the next sync brings the next attempt.
    pub fn renewal_failed(&mut self, reason: &str) {
        self.renewal = Renewal::Idle;
        self.renewal_error = Some(reason.to_owned());
    }

    /// The server does not know the certificate that the link shows: the link is of no use.
    pub fn certificate_refused(&mut self, now: &Now, reason: &str) {
        let has_another = self.refuse_certificate();
        self.disconnected(now, reason);
        if has_another {
            self.retry_at = now.moment;
        }
    }

    /// The certificate that is shown was refused; whether another one is shown next.
    pub(super) fn refuse_certificate(&mut self) -> bool {
        let before = self.credentials.shown();
        let has_another = self.credentials.refused();
        if self.credentials.shown() != before {
            self.actions.push_back(Action::Show(self.credentials.shown()));
        }
        has_another
    }

    /// The server wants a renewal, or the device itself does.
    pub(super) fn want_renewal(&mut self) {
        if self.renewal == Renewal::Idle {
            self.renewal = Renewal::Wanted;
        }
    }

    /// The certificate has come.
    pub(super) fn renewed(&mut self, renewed: Renewed) {
        if !matches!(self.renewal, Renewal::Asked { .. }) {
            return;
        }
        self.renewal = Renewal::Storing;
        self.actions.push_back(Action::StoreCertificate(renewed.certificate));
    }

    /// A sync has ended well: what that proves, and what is to follow.
    pub(super) fn synced_with_certificate(&mut self) {
        if let Some(forgotten) = self.credentials.proved() {
            self.actions.push_back(Action::Forget(forgotten));
        }
        if self.is_key_outdated {
            self.want_renewal();
        }
        if self.renewal == Renewal::Idle {
            // Nobody wants it any more.
            self.renewal_error = None;
        }
    }

    /// Whether an error of the server is its answer to a renewal: it answers nothing else so while no sync is
    /// under way.
    pub(super) fn is_about_renewal(&self, code: ErrorCode) -> bool {
        let is_asked = matches!(self.renewal, Renewal::Asked { .. });
        let is_resting = matches!(&self.link, Link::Up(up) if up.syncing.is_none());
        let is_answer = matches!(
            code,
            ErrorCode::UnknownKind | ErrorCode::Malformed | ErrorCode::Unexpected | ErrorCode::Internal
        );
        is_asked && is_resting && is_answer
    }

    /// The next step of a renewal on a link on which no sync is under way. Whether there was one.
    pub(super) fn advance_renewal(&mut self, now: &Now) -> bool {
        match self.renewal {
            // Before a sync on this link has proved the last renewal: the server says it again behind that.
            Renewal::Wanted if !self.credentials.is_settled() => {
                self.renewal = Renewal::Idle;
                false
            }
            Renewal::Wanted if !self.is_ending => {
                self.renewal = Renewal::Making;
                self.actions.push_back(Action::MakeRequest);
                true
            }
            Renewal::Asked { since } if now.moment >= since.plus_seconds(ANSWER_SECONDS_MAX) => {
                self.renewal_failed("the server did not answer in time");
                false
            }
            Renewal::Stored => {
                self.renewal = Renewal::Idle;
                self.actions.push_back(Action::CloseLink(LinkEnd::NewCertificate));
                self.sync_wanted.get_or_insert(SyncReason::Reconnected);
                self.retry_at = now.moment;
                self.drop_link();
                true
            }
            _ => false,
        }
    }

    /// Whether the link is still needed for a renewal.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewal != Renewal::Idle && !self.is_ending
    }

    /// When [`advance_renewal`](Self::advance_renewal) has something to do.
    pub(super) fn renewal_at(&self) -> Option<Moment> {
        match self.renewal {
            Renewal::Wanted if !self.is_ending => Some(Moment(0)),
            Renewal::Stored => Some(Moment(0)),
            Renewal::Asked { since } => Some(since.plus_seconds(ANSWER_SECONDS_MAX)),
            _ => None,
        }
    }

    /// The link has ended: a request on it has no answer any more. A certificate that has come is stored all
    /// the same.
    pub(super) fn renewal_link_ended(&mut self) {
        self.credentials.disconnected();
        if self.renewal != Renewal::Storing {
            self.renewal = Renewal::Idle;
        }
    }

    /// Why the last renewal came to nothing; `None`: it did not, or none was tried.
    #[must_use]
    pub fn renewal_error(&self) -> Option<&str> {
        self.renewal_error.as_deref()
    }
}
