//! Datagrams: the server wakes a device, a device says that it goes. Fixed layout, authenticated, never
//! answered with a datagram.
//!
//! Integers are big-endian. In rows of 8 bytes:
//!
//! ```text
//!  0  "mstr"                            version 1   purpose   code   zero
//!  8  device id, u64
//! 16  counter, u32                                  boot, u32
//! 24  HMAC-SHA-256 (RFC 2104) of bytes 0 to 24, with the key of this device and purpose
//! 56  end
//! ```
//!
//! *purpose* is 1 for a wake and 2 for a notice; *code* is the wake's reason or the notice's kind. *boot* is
//! 0 in a wake. The two purposes have keys of their own, so that neither side's datagrams mean anything when
//! they are sent back.
//!
//! A receiver looks at length and head, then at the code in constant time, and believes nothing before that.
//! The counter rises strictly with each wake or notice of a device, over restarts of both sides: a receiver
//! that remembers the highest one that was taken tells a replay without a clock. Copies of one datagram are
//! the same bytes.

use aws_lc_rs::hmac;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::id::DeviceId;
use super::limits::DATAGRAM_KEY_BYTES;
use super::named::{named, reasons};

/// Length of every datagram.
pub const DATAGRAM_BYTES: usize = 56;

/// Longest datagram that any version may send: with the headers it passes the smallest links without being
/// cut up, and nobody can use us to amplify anything.
pub const DATAGRAM_BYTES_MAX: usize = 128;

/// The authenticated part.
const HEAD_BYTES: usize = 24;
const MAGIC: &[u8; 4] = b"mstr";
const VERSION: u8 = 1;
const PURPOSE_WAKE: u8 = 1;
const PURPOSE_NOTICE: u8 = 2;

const _: () = assert!(DATAGRAM_BYTES < DATAGRAM_BYTES_MAX);

/// A key of one device for one purpose.
pub type DatagramKey = [u8; DATAGRAM_KEY_BYTES];

reasons! {
    /// Why a datagram was dropped. Each reason has a counter on the side that drops.
    DropReason {
        /// It has not the length of a datagram.
        Length = "length",
        /// It does not begin as ours do, or has another purpose.
        NotOurs = "not_ours",
        /// It names a device that is not known here, or not this one.
        OtherDevice = "other_device",
        /// Its code does not fit: it was made or changed by somebody without the key.
        Forged = "forged",
        /// It is authentic, of a kind that this version does not know.
        UnknownKind = "unknown_kind",
        /// It has the counter that was taken last: another copy of it, or a replay.
        Repeated = "repeated",
        /// Its counter is lower than one that was taken: late, or a replay.
        Stale = "stale",
        /// It is authentic and new, and came too soon after others.
        Limited = "limited",
    }
}

/// Why a device is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WakeReason {
    /// To sync.
    Sync,
    /// To do a task.
    Task,
    /// To stay: its link stays from now on.
    Stay,
    /// To learn whether wakes reach it: it notes the counter and does not come.
    Probe,
    /// To look at itself anew, and sync then.
    Retrieve,
}

impl WakeReason {
    const ALL: [(Self, u8); 5] =
        [(Self::Sync, 1), (Self::Task, 2), (Self::Stay, 3), (Self::Probe, 4), (Self::Retrieve, 5)];
}

named! {
    /// Kind of a shutdown notice.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[cbor(index_only)]
    #[serde(rename_all = "snake_case")]
    NoticeKind {
        /// It shuts down.
        #[n(1)]
        Shutdown = "shutdown",
        /// It reboots.
        #[n(2)]
        Reboot = "reboot",
        /// It goes to sleep.
        #[n(3)]
        Suspend = "suspend",
        /// Only its agent ends.
        #[n(4)]
        AgentStopped = "agent stopped",
        /// Nothing: somebody on the device looks whether notices reach the server.
        #[n(5)]
        Probe = "probe",
    }
}

impl NoticeKind {
    /// Its number in datagrams and in the store.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Shutdown => 1,
            Self::Reboot => 2,
            Self::Suspend => 3,
            Self::AgentStopped => 4,
            Self::Probe => 5,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// The server calls a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wake {
    /// Whom.
    pub device: DeviceId,
    /// Why.
    pub reason: WakeReason,
    /// Rises strictly with each wake of this device.
    pub counter: u32,
}

impl Wake {
    /// Its bytes.
    #[must_use]
    pub fn seal(&self, key: &DatagramKey) -> [u8; DATAGRAM_BYTES] {
        let code =
            WakeReason::ALL.iter().find(|(reason, _)| *reason == self.reason).map_or(0, |(_, code)| *code);
        seal(PURPOSE_WAKE, code, self.device, self.counter, 0, key)
    }

    /// The device that the bytes claim to be for: not to be believed, but needed to find the key where one
    /// port serves many devices.
    ///
    /// # Errors
    /// Why they are dropped already.
    #[cfg(any(test, feature = "internals"))]
    pub fn claimed(bytes: &[u8]) -> Result<DeviceId, DropReason> {
        head(bytes, PURPOSE_WAKE).map(|head| head.device)
    }

    /// Takes a wake for `device`. Counter and rate are the receiver's to judge.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn open(bytes: &[u8], device: DeviceId, key: &DatagramKey) -> Result<Self, DropReason> {
        let head = head(bytes, PURPOSE_WAKE)?;
        if head.device != device {
            return Err(DropReason::OtherDevice);
        }
        verify(bytes, key)?;
        let known = WakeReason::ALL.iter().find(|(_, code)| *code == head.code);
        let (reason, _) = known.ok_or(DropReason::UnknownKind)?;
        Ok(Self { device, reason: *reason, counter: head.counter })
    }
}

/// A device sends a shutdown notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The device.
    pub device: DeviceId,
    /// Its departure.
    pub kind: NoticeKind,
    /// Rises strictly with each notice of this device.
    pub counter: u32,
    /// Which of its boots says so: [`boot_of`].
    pub boot: u32,
}

impl Notice {
    /// Its bytes.
    #[must_use]
    pub fn seal(&self, key: &DatagramKey) -> [u8; DATAGRAM_BYTES] {
        seal(PURPOSE_NOTICE, self.kind.number(), self.device, self.counter, self.boot, key)
    }

    /// The device that the bytes claim to be of: not to be believed, but needed to find the key.
    ///
    /// # Errors
    /// Why they are dropped already.
    pub fn claimed(bytes: &[u8]) -> Result<DeviceId, DropReason> {
        head(bytes, PURPOSE_NOTICE).map(|head| head.device)
    }

    /// Takes a notice. The counter is the receiver's to judge.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn open(bytes: &[u8], key: &DatagramKey) -> Result<Self, DropReason> {
        let head = head(bytes, PURPOSE_NOTICE)?;
        verify(bytes, key)?;
        let kind = NoticeKind::from_number(head.code).ok_or(DropReason::UnknownKind)?;
        Ok(Self { device: head.device, kind, counter: head.counter, boot: head.boot })
    }
}

/// A boot as notices and syncs name it: the first 32 bits of the SHA-256 of its id (random(4)); 0 when the
/// system tells none.
#[must_use]
pub fn boot_of(boot_id: &str) -> u32 {
    if boot_id.is_empty() {
        return 0;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, boot_id.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |first| u32::from_be_bytes(*first))
}

struct Head {
    code: u8,
    device: DeviceId,
    counter: u32,
    boot: u32,
}

fn seal(
    purpose: u8,
    code: u8,
    device: DeviceId,
    counter: u32,
    boot: u32,
    key: &DatagramKey,
) -> [u8; DATAGRAM_BYTES] {
    let mut bytes = [0; DATAGRAM_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..7].copy_from_slice(&[VERSION, purpose, code]);
    bytes[8..16].copy_from_slice(&device.0.to_be_bytes());
    bytes[16..20].copy_from_slice(&counter.to_be_bytes());
    bytes[20..24].copy_from_slice(&boot.to_be_bytes());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &bytes[..HEAD_BYTES]);
    bytes[HEAD_BYTES..].copy_from_slice(tag.as_ref());
    bytes
}

/// The head of a datagram of this purpose, not to be believed yet.
fn head(bytes: &[u8], purpose: u8) -> Result<Head, DropReason> {
    let head: &[u8; DATAGRAM_BYTES] = bytes.try_into().map_err(|_| DropReason::Length)?;
    let is_ours = head.starts_with(MAGIC) && head[4] == VERSION && head[5] == purpose;
    let (Some(device), Some(counter), Some(boot)) =
        (head[8..].first_chunk(), head[16..].first_chunk(), head[20..].first_chunk())
    else {
        return Err(DropReason::Length);
    };
    let head = Head {
        code: head[6],
        device: DeviceId(u64::from_be_bytes(*device)),
        counter: u32::from_be_bytes(*counter),
        boot: u32::from_be_bytes(*boot),
    };
    is_ours.then_some(head).ok_or(DropReason::NotOurs)
}

/// In constant time: how long it takes says nothing of how much of the code fits.
fn verify(bytes: &[u8], key: &DatagramKey) -> Result<(), DropReason> {
    let (head, tag) = bytes.split_at_checked(HEAD_BYTES).ok_or(DropReason::Length)?;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), head, tag).map_err(|_| DropReason::Forged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: DatagramKey = [7; DATAGRAM_KEY_BYTES];
    const DEVICE: DeviceId = DeviceId(0x0123_4567_89ab_cdef);

    fn wake() -> Wake {
        Wake { device: DEVICE, reason: WakeReason::Stay, counter: 0x0a0b_0c0d }
    }

    fn notice() -> Notice {
        Notice { device: DEVICE, kind: NoticeKind::Suspend, counter: 9, boot: 0x1122_3344 }
    }

    #[test]
    fn the_layout_is_what_the_table_says() {
        let bytes = wake().seal(&KEY);
        let head = [
            &b"mstr\x01\x01\x03\0"[..],
            &[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef],
            &[0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes[..24], head[..]);
        // From Python: hmac.new(bytes([7] * 32), head, 'sha256').hexdigest()
        let tag: String = bytes[24..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(tag, "8489495788837ef4d35a376d51062e71759d90add0fd5ed7e2cdf3480fd85e02");
    }

    #[test]
    fn each_kind_survives_its_bytes() {
        for (reason, _) in WakeReason::ALL {
            let wake = Wake { reason, ..wake() };
            assert_eq!(Wake::open(&wake.seal(&KEY), DEVICE, &KEY), Ok(wake));
        }
        for kind in NoticeKind::ALL {
            let notice = Notice { kind, ..notice() };
            assert_eq!(Notice::open(&notice.seal(&KEY), &KEY), Ok(notice));
            assert_eq!(NoticeKind::from_number(kind.number()), Some(kind));
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        for (bytes, is_wake) in [(wake().seal(&KEY), true), (notice().seal(&KEY), false)] {
            for bit in 0..DATAGRAM_BYTES * 8 {
                let mut changed = bytes;
                changed[bit / 8] ^= 1 << (bit % 8);
                let dropped = match is_wake {
                    true => Wake::open(&changed, DEVICE, &KEY).unwrap_err(),
                    false => Notice::open(&changed, &KEY).unwrap_err(),
                };
                let expected = match bit / 8 {
                    0..6 => DropReason::NotOurs,
                    8..16 if is_wake => DropReason::OtherDevice,
                    _ => DropReason::Forged,
                };
                assert_eq!(dropped, expected, "bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_for_another_or_sent_back_is_dropped() {
        let bytes = wake().seal(&KEY);
        assert_eq!(Wake::open(&bytes, DeviceId(5), &KEY), Err(DropReason::OtherDevice));
        assert_eq!(Wake::open(&bytes, DEVICE, &[8; 32]), Err(DropReason::Forged));
        assert_eq!(Notice::open(&bytes, &KEY), Err(DropReason::NotOurs));
        assert_eq!(Wake::claimed(&bytes), Ok(DEVICE));
        assert_eq!(Wake::claimed(&notice().seal(&KEY)), Err(DropReason::NotOurs));
        assert_eq!(Wake::open(&notice().seal(&KEY), DEVICE, &KEY), Err(DropReason::NotOurs));
        let future = seal(PURPOSE_WAKE, 99, DEVICE, 1, 0, &KEY);
        assert_eq!(Wake::open(&future, DEVICE, &KEY), Err(DropReason::UnknownKind));
    }

    #[test]
    fn every_drop_has_its_place_and_a_name_of_its_own() {
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            assert_eq!(DropReason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }

    #[test]
    fn boots_are_told_apart() {
        assert_eq!(boot_of(""), 0);
        // printf a | sha256sum
        assert_eq!(boot_of("a"), 0xca97_8112);
    }

    proptest! {
        #[test]
        fn any_bytes_are_dropped_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..130), ours: bool) {
            let mut bytes = bytes;
            if ours && bytes.len() >= 6 {
                bytes[..6].copy_from_slice(b"mstr\x01\x02");
            }
            prop_assert!(Wake::open(&bytes, DEVICE, &KEY).is_err());
            prop_assert!(Notice::open(&bytes, &KEY).is_err());
        }
    }
}
