//! Faults that are put in on purpose, so that the simulation shows that it would find them.

use muster::machine::endpoint::Rule;

/// Something that a server must not do, put in on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    None,
    AckBeforeDurable,
    NoDuplicateCheck,
    /// Goes on with a link after the journal had no room for one of its events.
    NoCloseWithoutRoom,
    /// Goes on taking events of a link after one of them was put off.
    TakesBehindHeld,
    /// An agent that does not look at the counter of a wake.
    WakeReplayed,
    /// A sync in which nobody looks up to where the device's notices are over.
    NoticeOutlivesSync,
    /// A device that does not look whether it has had a run.
    RunTakenTwice,
    /// The late end of an old link is taken for that of the device's link.
    OldEndClearsNewLink,
    /// Retention by the wall clock as it is, whatever is thought of it.
    AgesByAnyClock,
    /// Stored times of tasks and runs stay as they are when the clock is set.
    TimesStay,
    /// Nobody looks at what a device has asked for already.
    NoAllowance,
    /// Acknowledgements that wait for the disk are not merged.
    AcksPileUp,
    /// An event of a hostile device is stored as that of another.
    EventForAnother,
    /// Each claim that the server was restored draws a new epoch.
    EpochAtEachClaim,
    /// A link that comes takes over from that of another device.
    LinkOfAnotherEnds,
    /// The link that a device had stays when another one takes over.
    EarlierLinkStays,
    /// The permit of a job that did not come about is lost.
    PermitIsLost,
    /// A link is told that the server stops while a job of it is under way.
    StopsBeforeJobs,
    /// Messages for a device that reads nothing wait without a bound.
    NoLimitOfUnsent,
}

impl Bug {
    /// The rule of the endpoint that it breaks.
    pub(crate) fn broken_rule(self) -> Option<Rule> {
        Some(match self {
            Self::AckBeforeDurable => Rule::AckWhenDurable,
            Self::NoCloseWithoutRoom => Rule::RefusalIsTold,
            Self::TakesBehindHeld => Rule::NothingBehindHeld,
            Self::OldEndClearsNewLink => Rule::OnlyItsOwnEnd,
            Self::NoAllowance => Rule::AllowanceIsAsked,
            Self::LinkOfAnotherEnds => Rule::AdoptedByItsDevice,
            Self::EarlierLinkStays => Rule::EarlierLinkEnds,
            Self::PermitIsLost => Rule::PermitComesBack,
            Self::StopsBeforeJobs => Rule::DrainWaitsForJobs,
            _ => return None,
        })
    }

    /// Whether it shows only beside hostile devices.
    pub(crate) fn is_of_hostile(self) -> bool {
        matches!(
            self,
            Self::NoAllowance
                | Self::AcksPileUp
                | Self::EventForAnother
                | Self::EpochAtEachClaim
                | Self::LinkOfAnotherEnds
                | Self::NoLimitOfUnsent
        )
    }
}
