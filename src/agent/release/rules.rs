//! Which program a device runs: the one that was installed, a release that has proved itself, or one that is
//! on trial. Pure: no clock, no file.

use minicbor::{Decode, Encode};

use crate::fleet::version;
use crate::wire::id::ArtifactHash;

/// Most starts of a release on trial.
pub const STARTS_MAX: u32 = 3;

/// The fourth word of a release's trusted comment, when it may replace a newer one.
const DOWNGRADE: &str = "downgrade";

/// One of the two places for releases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Slot {
    /// `a`.
    #[n(0)]
    A,
    /// `b`.
    #[n(1)]
    B,
}

impl Slot {
    /// Name of its directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// A release in its slot.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Release {
    /// Its place.
    #[n(0)]
    pub slot: Slot,
    /// SHA-256 of its file.
    #[n(1)]
    pub hash: ArtifactHash,
    /// Its version, as it was signed.
    #[n(2)]
    pub version: String,
}

/// A release that has not yet proved itself.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Trial {
    /// Which.
    #[n(0)]
    pub release: Release,
    /// Number of times that it was started.
    #[n(1)]
    pub starts: u32,
    /// Time in which it has to sync.
    #[n(2)]
    pub within_seconds: u32,
}

/// A release that was taken back.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Failed {
    /// SHA-256 of its file.
    #[n(0)]
    pub hash: ArtifactHash,
    /// Why.
    #[n(1)]
    pub reason: String,
}

/// All that is known of releases on a device.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Releases {
    /// SHA-256 of the installed program that the rest goes with.
    #[n(0)]
    installed: Option<ArtifactHash>,
    /// The release that has proved itself; `None`: the installed program runs.
    #[n(1)]
    pub current: Option<Release>,
    /// The one that is to prove itself.
    #[n(2)]
    pub trial: Option<Trial>,
    /// The one that was taken back last.
    #[n(3)]
    pub failed: Option<Failed>,
}

impl Releases {
    /// The installed program was started: which release it is to execute instead of itself, if any.
    ///
    /// A program that was installed since, by hand, wins over all releases from before.
    pub fn start(&mut self, installed: ArtifactHash) -> Option<Release> {
        if self.installed.replace(installed) != Some(installed) {
            self.take_back("another program was installed on the device");
            self.current = None;
        }
        match &mut self.trial {
            Some(trial) if trial.starts < STARTS_MAX => {
                trial.starts += 1;
                return Some(trial.release.clone());
            }
            Some(_) => {
                self.take_back(&format!("it was started {STARTS_MAX} times and has not come in sync"));
            }
            None => {}
        }
        self.current.clone()
    }

    /// The place for the next release: not that of the one that runs.
    #[must_use]
    pub fn free(&self) -> Slot {
        match &self.current {
            Some(Release { slot: Slot::A, .. }) => Slot::B,
            _ => Slot::A,
        }
    }

    /// A release is in the [free](Self::free) slot, and goes on trial. `installed`: the program that it
    /// goes with.
    pub fn begin(&mut self, installed: ArtifactHash, release: Release, within_seconds: u32) {
        self.installed = Some(installed);
        self.failed = None;
        self.trial = Some(Trial { release, starts: 0, within_seconds });
    }

    /// The release on trial came in sync. Whether there is one of that hash.
    pub fn prove(&mut self, hash: ArtifactHash) -> bool {
        match self.trial.take() {
            Some(trial) if trial.release.hash == hash => {
                self.current = Some(trial.release);
                true
            }
            other => {
                self.trial = other;
                false
            }
        }
    }

    /// The release on trial is executed no more. Whether there was one.
    pub fn take_back(&mut self, reason: &str) -> bool {
        let Some(trial) = self.trial.take() else { return false };
        self.failed = Some(Failed { hash: trial.release.hash, reason: reason.to_owned() });
        true
    }

    /// A release can't be executed: on trial it is taken back, and the one that had proved itself is
    /// forgotten.
    pub fn is_broken(&mut self, release: &Release, reason: &str) {
        let is_on_trial = self.trial.as_ref().is_some_and(|trial| trial.release == *release);
        if is_on_trial {
            self.take_back(reason);
        } else {
            self.current = None;
            self.failed = Some(Failed { hash: release.hash, reason: reason.to_owned() });
        }
    }

    /// Whether the release is on trial.
    #[must_use]
    pub fn tries(&self, hash: ArtifactHash) -> Option<&Trial> {
        self.trial.as_ref().filter(|trial| trial.release.hash == hash)
    }
}

/// Reads a release's trusted comment, `muster-agent VERSION ARCHITECTURE [downgrade]`, and judges whether it
/// is for this device. Returns its version.
///
/// # Errors
/// Why it is not.
pub fn judge_comment(comment: &str, running: &str, architecture: &str) -> Result<String, String> {
    let words: Vec<&str> = comment.split_ascii_whitespace().collect();
    let (version, its_architecture, is_downgrade) = match words[..] {
        ["muster-agent", version, architecture] => (version, architecture, false),
        ["muster-agent", version, architecture, DOWNGRADE] => (version, architecture, true),
        _ => {
            return Err(format!(
                "it was signed as '{comment}', which is no release of the agent: sign it with minisign -t 'muster-agent VERSION ARCHITECTURE'"
            ));
        }
    };
    if its_architecture != architecture {
        return Err(format!("it is for {its_architecture}, and this device is {architecture}"));
    }
    if !is_downgrade && version::compare(version, running).is_lt() {
        return Err(format!(
            "it is version {version}, older than {running} that runs here: an older one has to be signed with the word '{DOWNGRADE}' behind it"
        ));
    }
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(number: u8) -> ArtifactHash {
        ArtifactHash([number; 32])
    }

    fn release(slot: Slot, number: u8) -> Release {
        Release { slot, hash: hash(number), version: format!("0.{number}") }
    }

    fn begun(releases: &mut Releases, number: u8) -> Release {
        let release = release(releases.free(), number);
        releases.begin(hash(0), release.clone(), 300);
        release
    }

    #[test]
    fn a_release_that_comes_in_sync_stays_and_the_next_has_the_other_place() {
        let mut releases = Releases::default();
        assert_eq!(releases.start(hash(0)), None);
        let first = begun(&mut releases, 1);
        assert_eq!(releases.start(hash(0)), Some(first.clone()));
        assert!(!releases.prove(hash(2)), "another one");
        assert!(releases.prove(hash(1)) && !releases.prove(hash(1)));
        for _ in 0..9 {
            assert_eq!(releases.start(hash(0)), Some(first.clone()));
        }
        let second = begun(&mut releases, 2);
        assert_eq!((first.slot, second.slot), (Slot::A, Slot::B));
        assert_eq!(releases.start(hash(0)), Some(second));
    }

    #[test]
    fn one_that_does_not_is_started_three_times() {
        let mut releases = Releases::default();
        let good = begun(&mut releases, 1);
        releases.start(hash(0));
        releases.prove(hash(1));
        let bad = begun(&mut releases, 2);
        for _ in 0..STARTS_MAX {
            assert_eq!(releases.start(hash(0)), Some(bad.clone()));
        }
        assert_eq!(releases.start(hash(0)), Some(good));
        assert!(releases.failed.as_ref().is_some_and(|failed| failed.hash == hash(2)));
        assert!(!releases.prove(hash(2)), "too late");
    }

    #[test]
    fn what_is_installed_by_hand_wins() {
        let mut releases = Releases::default();
        begun(&mut releases, 1);
        releases.start(hash(0));
        releases.prove(hash(1));
        begun(&mut releases, 2);
        assert_eq!(releases.start(hash(9)), None);
        assert_eq!((&releases.current, &releases.trial), (&None, &None));
        assert!(releases.failed.is_some());
    }

    #[test]
    fn one_whose_file_is_broken_is_not_tried_again() {
        let mut releases = Releases::default();
        let first = begun(&mut releases, 1);
        releases.start(hash(0));
        releases.prove(hash(1));
        let second = begun(&mut releases, 2);
        releases.is_broken(&second, "it can't be executed");
        assert_eq!(releases.start(hash(0)), Some(first.clone()));
        releases.is_broken(&first, "its file was changed");
        assert_eq!(releases.start(hash(0)), None);
    }

    #[test]
    fn a_comment_says_for_whom_it_is() {
        let judge = |comment: &str| judge_comment(comment, "0.9.0", "x86_64-linux");
        assert_eq!(judge("muster-agent 0.10.0 x86_64-linux"), Ok("0.10.0".into()));
        assert_eq!(judge("muster-agent 0.9.0 x86_64-linux"), Ok("0.9.0".into()));
        assert_eq!(judge("muster-agent 0.8.9 x86_64-linux downgrade"), Ok("0.8.9".into()));
        for (comment, why) in [
            ("muster-agent 0.8.9 x86_64-linux", "older than 0.9.0"),
            ("muster-agent 0.10.0 aarch64-linux", "this device is x86_64-linux"),
            ("timestamp:1555779966", "no release of the agent"),
            ("muster-agent 1 x86_64-linux upgrade", "no release of the agent"),
            ("", "no release of the agent"),
        ] {
            assert!(judge(comment).unwrap_err().contains(why), "{comment}");
        }
    }

    proptest! {
        /// Whatever happens in whatever order, a device never runs what has failed, and is back on what had
        /// proved itself after three starts.
        #[test]
        fn a_device_always_comes_back(steps in prop::collection::vec((0u8..6, 1u8..4), 0..60)) {
            let (mut releases, mut proved) = (Releases::default(), None);
            releases.start(hash(0));
            for (step, number) in steps {
                match step {
                    0 if releases.trial.is_none() => {
                        begun(&mut releases, number);
                    }
                    1 => {
                        let tried = releases.trial.clone().map(|trial| trial.release);
                        if releases.prove(hash(number)) {
                            proved = tried;
                        }
                    }
                    2 => {
                        releases.take_back("T");
                    }
                    _ => {
                        let started = releases.start(hash(0));
                        let tried = releases.trial.as_ref().map(|trial| &trial.release);
                        prop_assert!(started.as_ref() == tried || started == proved, "{started:?}");
                    }
                }
                prop_assert!(releases.trial.as_ref().is_none_or(|trial| trial.starts <= STARTS_MAX));
                prop_assert_eq!(&releases.current, &proved);
                prop_assert!(releases.trial.as_ref().is_none_or(|trial| Some(trial.release.slot) != proved.as_ref().map(|it| it.slot)));
            }
            for _ in 0..=STARTS_MAX {
                releases.start(hash(0));
            }
            prop_assert_eq!(releases.start(hash(0)), proved);
        }
    }
}
