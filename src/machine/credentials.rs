//! Which of its certificates a device shows, and when it may forget one.
//!
//! A renewal has four steps, and a device may end between any two of them:
//!
//! 1. A key is made, and a certificate is asked for. Nothing is stored: an end here changes nothing.
//! 2. Both are stored beside those in use, in one durable write ([`Credentials::stored`]).
//! 3. The next link shows the new certificate ([`Credentials::shown`]).
//! 4. A sync that ends well on such a link proves it: only then the other one is forgotten
//!    ([`Credentials::proved`]).
//!
//! When the server refuses the one that is shown, the next link shows the other ([`Credentials::refused`]):
//! the one with which a sync ends well stays. A device that has one certificate has nothing to choose.

/// One of a device's certificates, with its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Credential {
    /// The one that was stored last.
    Newest,
    /// The one before it, which is kept until the newest is proved.
    Previous,
}

/// The certificates of a device: which one is shown, and which may be forgotten.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    has_previous: bool,
    /// The next link shows this one.
    shown: Credential,
    /// The link that is there shows this one; `None`: there is no link.
    on_link: Option<Credential>,
    /// The server has refused the newest since it was stored, or since the start.
    is_newest_refused: bool,
}

impl Credentials {
    /// Those of a device that has just started.
    #[must_use]
    pub fn new(has_previous: bool) -> Self {
        Self { has_previous, shown: Credential::Newest, on_link: None, is_newest_refused: false }
    }

    /// The one that the next link is to show.
    #[must_use]
    pub fn shown(&self) -> Credential {
        self.shown
    }

    /// Whether there is one alone, so that another may be asked for: a renewal that is not proved is neither
    /// overtaken nor undone by the next.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.has_previous
    }

    /// The link stands.
    pub fn connected(&mut self) {
        self.on_link = Some(self.shown);
    }

    /// The link has ended.
    pub fn disconnected(&mut self) {
        self.on_link = None;
    }

    /// A renewed certificate is stored, durably, beside the one that [was alone](Self::is_settled).
    pub fn stored(&mut self) {
        if self.on_link.is_some() {
            self.on_link = Some(Credential::Previous);
        }
        self.has_previous = true;
        self.shown = Credential::Newest;
        self.is_newest_refused = false;
    }

    /// The server has refused the certificate that was shown to it. `true`: another one is shown next, which
    /// it may know.
    pub fn refused(&mut self) -> bool {
        if !self.has_previous {
            return false;
        }
        match self.on_link.unwrap_or(self.shown) {
            Credential::Newest => {
                self.is_newest_refused = true;
                self.shown = Credential::Previous;
                true
            }
            Credential::Previous => {
                self.shown = Credential::Newest;
                // A link that showed the previous one before the newest was stored says nothing of that.
                !self.is_newest_refused
            }
        }
    }

    /// A sync has ended well on the link. Returns the certificate that may be forgotten now, if one may: the
    /// caller takes it off the disk. Until that is durable a restart finds both, which does no harm.
    pub fn proved(&mut self) -> Option<Credential> {
        let forgotten = match self.on_link.filter(|_| self.has_previous)? {
            Credential::Newest => Credential::Previous,
            Credential::Previous if self.is_newest_refused => Credential::Newest,
            // The link is from before the newest was stored.
            Credential::Previous => return None,
        };
        self.has_previous = false;
        (self.shown, self.on_link) = (Credential::Newest, Some(Credential::Newest));
        self.is_newest_refused = false;
        Some(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::machine::random::Random;

    /// A device's disk: certificates by number.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Disk {
        newest: u32,
        previous: Option<u32>,
    }

    impl Disk {
        fn get(self, which: Credential) -> u32 {
            match which {
                Credential::Newest => self.newest,
                // With a fault it may be gone.
                Credential::Previous => self.previous.unwrap_or(self.newest),
            }
        }
    }

    /// A fault that is built in, to see that it is found.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Fault {
        None,
        /// The certificate in use is not kept beside the renewed one.
        ForgotAtOnce,
        /// A sync on the link from before the renewal counts as proof.
        ProvedByTheOldLink,
    }

    /// A device and a server that end, lose answers and are restored from copies, at random.
    struct World {
        random: Random,
        fault: Fault,
        disk: Disk,
        credentials: Credentials,
        /// The certificate that the link shows.
        link: Option<u32>,
        /// Certificates that the server lets in; a server that was restored may know none but the oldest.
        known: BTreeSet<u32>,
        issued: u32,
        /// With which a sync ended well last.
        proved: u32,
        /// Durable copies of the server's knowledge, each with that one.
        copies: Vec<BTreeSet<u32>>,
        renewals: u32,
    }

    impl World {
        fn new(seed: u64, fault: Fault) -> Self {
            Self {
                random: Random::new(seed),
                fault,
                disk: Disk { newest: 1, previous: None },
                credentials: Credentials::new(false),
                link: None,
                known: BTreeSet::from([1]),
                issued: 1,
                proved: 1,
                copies: Vec::new(),
                renewals: 0,
            }
        }

        fn one_in(&mut self, count: u64) -> bool {
            self.random.up_to(count - 1) == 0
        }

        /// The device ends, and starts from its disk.
        fn restart(&mut self) {
            self.link = None;
            self.credentials = Credentials::new(self.disk.previous.is_some());
        }

        fn end_link(&mut self) {
            self.link = None;
            self.credentials.disconnected();
        }

        fn connect(&mut self) {
            let shown = self.disk.get(self.credentials.shown());
            self.credentials.connected();
            self.link = Some(shown);
            if !self.known.contains(&shown) {
                self.credentials.refused();
                self.end_link();
            }
        }

        fn sync(&mut self) {
            let Some(shown) = self.link else { return };
            self.proved = shown;
            if self.known.last() == Some(&shown) {
                // The newest one is used: the server forgets the others.
                self.known = BTreeSet::from([shown]);
            }
            let is_old_link = self.credentials.on_link == Some(Credential::Previous);
            let forgotten = match self.fault {
                Fault::ProvedByTheOldLink if is_old_link && self.disk.previous.is_some() => {
                    self.credentials.has_previous = false;
                    Some(Credential::Previous)
                }
                _ => self.credentials.proved(),
            };
            if self.one_in(8) {
                return self.restart();
            }
            match forgotten {
                Some(Credential::Previous) => self.disk.previous = None,
                Some(Credential::Newest) => {
                    self.disk = Disk { newest: self.disk.get(Credential::Previous), previous: None };
                }
                None => {}
            }
        }

        fn renew(&mut self) {
            if self.link.is_none() || !self.credentials.is_settled() {
                return;
            }
            self.issued += 1;
            self.known.insert(self.issued);
            if self.one_in(6) {
                return self.restart();
            }
            if self.one_in(6) {
                return self.end_link();
            }
            let previous = (self.fault != Fault::ForgotAtOnce).then_some(self.disk.newest);
            self.disk = Disk { newest: self.issued, previous };
            self.renewals += 1;
            if self.one_in(6) {
                return self.restart();
            }
            self.credentials.stored();
            if self.one_in(2) {
                self.sync();
            }
            self.end_link();
        }

        fn step(&mut self) {
            match self.random.up_to(11) {
                0 => self.restart(),
                1 => self.end_link(),
                2 if self.one_in(4) => self.copies.push(self.known.clone()),
                3 if self.one_in(8) => {
                    // Older copies are for the rule of certificates that the server's authority has signed.
                    if let Some(copy) = self.copies.pop() {
                        self.known = copy;
                        self.end_link();
                    }
                }
                4 | 5 => self.renew(),
                6 | 7 => self.sync(),
                _ if self.link.is_none() => self.connect(),
                _ => {}
            }
            self.copies.retain(|copy| copy.contains(&self.proved));
        }

        /// Whether the device comes back, whatever it was at.
        fn comes_back(&mut self) -> bool {
            if self.link.is_some() {
                return true;
            }
            (0..3).any(|_| {
                self.connect();
                self.link.is_some()
            })
        }
    }

    fn fails(seed: u64, fault: Fault) -> Option<String> {
        let mut world = World::new(seed, fault);
        for step in 0..400 {
            world.step();
            if !world.known.contains(&world.disk.newest)
                && !world.disk.previous.is_some_and(|previous| world.known.contains(&previous))
            {
                return Some(format!("seed {seed}, step {step}: {:?} and {:?}", world.disk, world.known));
            }
        }
        if !world.comes_back() {
            return Some(format!("seed {seed}: {:?} and {:?}", world.disk, world.credentials));
        }
        assert!(world.renewals > 5, "seed {seed}: {} renewals", world.renewals);
        None
    }

    #[test]
    fn whatever_ends_in_between_a_device_has_a_certificate_that_the_server_knows() {
        for seed in 0..2_000 {
            assert_eq!(fails(seed, Fault::None), None);
        }
    }

    #[test]
    fn a_certificate_that_is_forgotten_too_early_is_found() {
        for fault in [Fault::ForgotAtOnce, Fault::ProvedByTheOldLink] {
            assert!((0..2_000).any(|seed| fails(seed, fault).is_some()), "{fault:?}");
        }
    }

    #[test]
    fn a_refused_certificate_gives_way_and_comes_back_when_the_other_is_refused_too() {
        let mut credentials = Credentials::new(true);
        credentials.connected();
        assert!(credentials.refused());
        credentials.disconnected();
        assert_eq!(credentials.shown(), Credential::Previous);
        credentials.connected();
        assert!(!credentials.refused(), "both are refused: the next attempt is not at once");
        credentials.disconnected();
        assert_eq!(credentials.shown(), Credential::Newest);
        credentials.connected();
        assert!(credentials.refused());
        credentials.disconnected();
        credentials.connected();
        assert_eq!(credentials.proved(), Some(Credential::Newest));
        assert_eq!((credentials.shown(), credentials.proved()), (Credential::Newest, None));
        assert!(!credentials.refused(), "there is no other");
    }

    #[test]
    fn the_link_from_before_a_renewal_proves_nothing() {
        let mut credentials = Credentials::new(false);
        credentials.connected();
        assert_eq!(credentials.proved(), None);
        credentials.stored();
        assert_eq!(credentials.proved(), None);
        assert!(!credentials.is_settled());
        credentials.disconnected();
        credentials.connected();
        assert_eq!(credentials.proved(), Some(Credential::Previous));
    }
}
