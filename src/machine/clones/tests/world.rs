//! Machines that were made from one disk, at a server that starts anew and whose wall clock lies, under each
//! policy. Beside it runs a watch that never ends: both must say the same.

use super::*;
use crate::wire::clone_policy::ClonePolicy;

/// Steps of one world.
const STEPS: u64 = 500;

/// Turns of a copy that are served at most before it is sent away, each behind another machine.
const TURNS_MAX: u32 = 4;

const DAY_SECONDS: u64 = 86_400;

/// A fault that is built in, to see that it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// The next server knows nothing of what the one before has seen.
    Forgets,
    /// Stored times are compared with what the wall clock says at the start.
    ByTheWallClock,
    /// Stored times are not written anew when the wall clock steps.
    KeepsOldTimes,
    /// The record becomes that of a copy that was sent away.
    FollowsCopies,
}

#[derive(Clone, Copy, Default)]
struct Machine {
    boot: u16,
    is_found_out: bool,
    is_gone: bool,
    away_until_step: u64,
    turns: u32,
}

struct World {
    random: Random,
    fault: Fault,
    policy: ClonePolicy,
    watch: CloneWatch,
    /// One that is there all the time.
    steady: CloneWatch,
    stored: BTreeMap<DeviceId, StoredWatch>,
    /// The life that was served last.
    record: Incarnation,
    machines: Vec<Machine>,
    boots: u16,
    seconds: u64,
    started_seconds: u64,
    /// Distance of the time that is known from the true one.
    ahead_seconds: u64,
}

type Outcome = Result<(), String>;

impl World {
    fn new(seed: u64, policy: ClonePolicy, fault: Fault) -> Self {
        Self {
            random: Random::new(seed),
            fault,
            policy,
            watch: CloneWatch::default(),
            steady: CloneWatch::default(),
            stored: BTreeMap::new(),
            record: on(1, 1, 1),
            machines: vec![Machine { boot: 1, ..Machine::default() }],
            boots: 1,
            seconds: 0,
            started_seconds: 0,
            ahead_seconds: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            moment: Moment(1).plus_seconds(self.seconds - self.started_seconds),
            wall: at(self.seconds).wall,
        }
    }

    fn known(&self) -> Now {
        Now { wall: at(self.seconds + self.ahead_seconds).wall, ..self.now() }
    }

    fn boot(&mut self, machine: usize) {
        self.boots += 1;
        self.machines[machine].boot = self.boots;
    }

    /// As the server does each second.
    fn store(&mut self) {
        for (device, stored) in self.watch.take_unstored(&self.known()) {
            match stored {
                Some(stored) => self.stored.insert(device, stored),
                None => self.stored.remove(&device),
            };
        }
    }

    fn restart(&mut self) {
        self.started_seconds = self.seconds;
        let mut known = self.known();
        if self.fault == Fault::ByTheWallClock {
            known.wall = at(self.seconds + 3_650 * DAY_SECONDS).wall;
        }
        self.watch = CloneWatch::default();
        for (device, stored) in self.stored.iter().filter(|_| self.fault != Fault::Forgets) {
            self.watch.restore(*device, stored, &known).unwrap();
        }
    }

    /// From now on the time that is known is another.
    fn step_clock(&mut self) {
        self.ahead_seconds = self.random.up_to(3_650) * DAY_SECONDS;
        if self.fault != Fault::KeepsOldTimes {
            self.watch.store_all();
        }
        self.store();
    }

    /// Asks both watches.
    fn both<T: PartialEq + std::fmt::Debug>(
        &mut self,
        ask: impl Fn(&mut CloneWatch, &Now) -> T,
    ) -> Result<T, String> {
        let now = self.now();
        let answer = ask(&mut self.watch, &now);
        let steady = ask(&mut self.steady, &at(self.seconds));
        if answer == steady { Ok(answer) } else { Err(format!("{answer:?}, and without an end {steady:?}")) }
    }

    fn suspicion(&mut self) -> Result<Option<Suspicion>, String> {
        self.both(|watch, now| watch.suspicion(DEVICE, now))
    }

    /// A machine syncs.
    fn sync(&mut self, machine: usize) -> Outcome {
        let left = self.record;
        let came = on(u16::try_from(machine).unwrap() + 1, self.machines[machine].boot, 1);
        let mut is_served = true;
        if came != left {
            let is_copy = self.both(|watch, now| watch.changed(DEVICE, left, came, None, now))?.is_copy;
            match self.policy {
                ClonePolicy::Fork if is_copy => {
                    self.machines[machine].is_gone = self.both(|watch, now| watch.fork(DEVICE, came, now))?;
                    is_served = false;
                }
                ClonePolicy::Refuse if is_copy => is_served = false,
                _ => {}
            }
        }
        if !is_served && machine == 0 {
            return Err("the first was sent away".into());
        }
        if !is_served {
            self.machines[machine].is_found_out = true;
        } else if self.machines[machine].is_found_out {
            return Err(format!("the copy {machine} was served again"));
        }
        if is_served && came.machine != left.machine && self.policy != ClonePolicy::Warn && machine > 0 {
            self.machines[machine].turns += 1;
            if self.machines[machine].turns > TURNS_MAX {
                return Err(format!("the copy {machine} was served too often"));
            }
        }
        if is_served || self.fault == Fault::FollowsCopies {
            self.record = came;
        }
        self.store();
        self.suspicion().map(drop)
    }

    /// One that is there at this step.
    fn one_of(&mut self, step: u64) -> Option<usize> {
        let here = |at: &usize| !self.machines[*at].is_gone && self.machines[*at].away_until_step <= step;
        let here: Vec<usize> = (0..self.machines.len()).filter(here).collect();
        let last = (here.len() as u64).checked_sub(1)?;
        Some(here[usize::try_from(self.random.up_to(last)).unwrap()])
    }

    fn run(mut self) -> Outcome {
        for _ in 0..self.random.up_to(20) {
            self.seconds += 600;
            self.boot(0);
            self.sync(0)?;
        }
        for _ in 0..=self.random.up_to(2) {
            self.machines.push(Machine::default());
            self.boot(self.machines.len() - 1);
        }
        for step in 0..STEPS {
            self.seconds += 1 + self.random.up_to(900);
            match self.random.up_to(99) {
                0..5 => self.restart(),
                5 => self.step_clock(),
                _ => {}
            }
            let Some(machine) = self.one_of(step) else { continue };
            match self.random.up_to(99) {
                0..5 => self.boot(machine),
                5..7 => {
                    // The first may be off for long, and its copies are served meanwhile.
                    let most = if machine == 0 { 200 } else { 20 };
                    self.machines[machine].away_until_step = step + self.random.up_to(most);
                    continue;
                }
                _ => {}
            }
            self.sync(machine)?;
        }
        let has_copies = self.machines[1..].iter().any(|machine| !machine.is_gone);
        let is_suspected = self.suspicion()?.is_some();
        match self.policy {
            ClonePolicy::Fork if has_copies => Err("a copy was never found out".into()),
            ClonePolicy::Fork if is_suspected => Err("each is a device of its own".into()),
            ClonePolicy::Refuse | ClonePolicy::Warn if !is_suspected => Err("it is not told".into()),
            _ => Ok(()),
        }
    }
}

fn runs(policy: ClonePolicy, fault: Fault) -> impl Iterator<Item = (u64, Outcome)> {
    (0..500).map(move |seed| (seed, World::new(seed, policy, fault).run()))
}

#[test]
fn the_first_of_several_machines_is_served_and_each_copy_is_found_out_whatever_the_server_goes_through() {
    for policy in [ClonePolicy::Warn, ClonePolicy::Fork, ClonePolicy::Refuse] {
        for (seed, outcome) in runs(policy, Fault::None) {
            assert_eq!(outcome, Ok(()), "{policy:?}, seed {seed}");
        }
        for fault in [Fault::Forgets, Fault::ByTheWallClock, Fault::KeepsOldTimes] {
            assert!(runs(policy, fault).any(|(_, outcome)| outcome.is_err()), "{policy:?}, {fault:?}");
        }
    }
    assert!(runs(ClonePolicy::Refuse, Fault::FollowsCopies).any(|(_, outcome)| outcome.is_err()));
}

/// It boots at any time, is set back to a snapshot or a backup now and then, and its disk is put into another
/// machine once.
#[test]
fn a_device_that_is_alone_is_never_suspected() {
    for seed in 0..500 {
        let mut world = World::new(seed, ClonePolicy::Fork, Fault::None);
        let (mut certificate, mut newest, mut snapshot) = (1, 1, None);
        for step in 0..STEPS {
            world.seconds += 1 + world.random.up_to(7_200);
            if step == STEPS / 2 {
                snapshot = None;
                world.machines.push(Machine::default());
                world.boot(1);
            }
            let machine = world.machines.len() - 1;
            match world.random.up_to(99) {
                0..5 => world.restart(),
                5 => world.step_clock(),
                6 => snapshot = Some((world.record.boot, certificate)),
                7 => {
                    newest += 1;
                    let shown = newest;
                    certificate = shown;
                    world.both(|watch, now| watch.certificate_shown(DEVICE, 0, shown, None, now)).unwrap();
                }
                8 => {
                    let Some((boot, shown)) = snapshot else { continue };
                    world.seconds += 2 * DAY_SECONDS;
                    let in_use = std::mem::replace(&mut certificate, shown);
                    world
                        .both(|watch, now| watch.certificate_shown(DEVICE, in_use, shown, None, now))
                        .unwrap();
                    world.machines[machine].boot = boot;
                }
                _ => world.boot(machine),
            }
            world.sync(machine).unwrap();
            assert_eq!(world.suspicion(), Ok(None), "seed {seed}, step {step}");
        }
    }
}
