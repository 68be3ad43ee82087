use proptest::prelude::*;

use super::*;

const START: u64 = 1_795_514_400_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A machine: both clocks and its sleep, each moved at will.
#[derive(Clone)]
struct Machine {
    moment_ms: u64,
    wall_ms: u64,
    asleep_ms: u64,
    clock: WallClock,
}

impl Machine {
    fn start(wall_ms: u64, last: Option<u64>) -> (Self, Option<ClockChange>) {
        let now = Now { moment: Moment(5_000_000), wall: WallTime(wall_ms) };
        let (clock, change) = WallClock::start(now, 70_000, last.map(WallTime));
        (Self { moment_ms: 5_000, wall_ms, asleep_ms: 70_000, clock }, change)
    }

    fn now(&self) -> Now {
        Now { moment: Moment(self.moment_ms * 1_000), wall: WallTime(self.wall_ms) }
    }

    fn look(&mut self) -> Option<ClockChange> {
        self.clock.observe(self.now(), self.asleep_ms)
    }

    /// Time passes on both clocks.
    fn pass(&mut self, ms: u64) -> Option<ClockChange> {
        self.moment_ms += ms;
        self.wall_ms += ms;
        self.look()
    }

    /// The wall clock alone is set, a second later it is looked.
    fn set(&mut self, by_ms: i64) -> Option<ClockChange> {
        self.wall_ms = self.wall_ms.saturating_add_signed(by_ms);
        self.pass(1_000)
    }

    fn ages(&self) -> AgeTime {
        self.clock.ages(self.now().moment)
    }
}

fn event(change: Option<ClockChange>) -> Option<ClockEvent> {
    change.map(|change| change.event)
}

#[test]
fn a_clock_that_is_ahead_for_a_minute_lets_nothing_expire() {
    let (mut machine, change) = Machine::start(START, Some(START - 5_000));
    assert_eq!(change, None);
    let step = machine.set((200 * DAY).cast_signed()).unwrap();
    assert_eq!((step.event, step.by_milliseconds), (ClockEvent::Forward, (200 * DAY).cast_signed()));
    assert_eq!((step.now.0, step.known.0), (START + 200 * DAY + 1_000, START + 1_000));
    assert_eq!(machine.pass(60_000), None);
    assert_eq!(machine.ages(), AgeTime { wall: WallTime(START + 61_000), may_expire: false });
    assert_eq!(machine.clock.wall(machine.now().moment), machine.now().wall, "what is shown follows");
    assert_eq!(machine.clock.doubted().unwrap().ahead_milliseconds, 200 * DAY);
    let back = machine.set(-(200 * DAY).cast_signed()).unwrap();
    assert_eq!((back.event, back.moved_milliseconds), (ClockEvent::Right, -(200 * DAY).cast_signed()));
    assert_eq!(machine.ages(), AgeTime { wall: machine.now().wall, may_expire: true });
}

#[test]
fn a_clock_that_stays_ahead_is_believed_after_an_hour() {
    let (mut machine, _) = Machine::start(START, None);
    machine.set((2 * DAY).cast_signed()).unwrap();
    assert_eq!(machine.pass(GRACE_SECONDS * 1_000 - 1), None);
    assert!(!machine.ages().may_expire);
    let believed = machine.pass(1).unwrap();
    assert_eq!((believed.event, believed.by_milliseconds), (ClockEvent::Believed, (2 * DAY).cast_signed()));
    assert_eq!(machine.ages(), AgeTime { wall: machine.now().wall, may_expire: true });
    assert_eq!(machine.clock.known(machine.now().moment), machine.now().wall);
}

#[test]
fn a_start_far_ahead_of_the_last_time_on_disk_is_a_long_stop_or_a_wrong_clock() {
    let (mut machine, change) = Machine::start(START + 2 * HOUR, Some(START));
    assert_eq!(event(change), Some(ClockEvent::StartedAhead));
    assert_eq!(machine.ages(), AgeTime { wall: WallTime(START + 2 * HOUR), may_expire: false });
    machine.pass(60_000);
    assert_eq!(machine.clock.known(machine.now().moment), WallTime(START + 60_000), "for the next start");
    assert_eq!(event(machine.set(-(2 * HOUR).cast_signed())), Some(ClockEvent::Right));
    assert!(machine.ages().may_expire);
    // A restart is none.
    let (machine, change) = Machine::start(START + STOP_SECONDS * 1_000, Some(START));
    assert_eq!((change, machine.clock.may_expire()), (None, true));
}

#[test]
fn a_start_behind_the_last_time_on_disk_is_a_clock_that_was_set_back() {
    let (machine, change) = Machine::start(20_000, Some(START));
    let change = change.unwrap();
    assert_eq!((change.event, change.known), (ClockEvent::StartedBehind, WallTime(START)));
    assert_eq!(
        machine.ages(),
        AgeTime { wall: WallTime(20_000), may_expire: true },
        "nothing is old in 1970"
    );
    let (_, change) = Machine::start(START - STEP_SECONDS * 1_000, Some(START));
    assert_eq!(change, None);
}

#[test]
fn a_time_servers_small_corrections_are_no_step_and_many_of_them_are() {
    let (mut machine, _) = Machine::start(START, None);
    assert_eq!((machine.set(5_000), machine.set(-9_000)), (None, None));
    assert_eq!(machine.ages(), AgeTime { wall: machine.now().wall, may_expire: true });
    // 500 ppm, as adjtime(3) slews, for a day.
    for _ in 0..24 * 60 {
        assert_eq!(machine.set(30), None);
        assert_eq!(machine.pass(59_000), None);
    }
    let (mut machine, _) = Machine::start(START, None);
    let steps: Vec<_> = (0..8).filter_map(|_| machine.set(9_000)).collect();
    assert_eq!(steps.len(), 1, "seven times nine seconds are more than sixty: {steps:?}");
    assert_eq!((steps[0].by_milliseconds, steps[0].moved_milliseconds), (63_000, 9_000));
    assert!(!machine.ages().may_expire);
}

#[test]
fn a_machine_that_slept_comes_back_to_a_clock_that_is_right() {
    let (mut machine, _) = Machine::start(START, None);
    (machine.wall_ms, machine.asleep_ms) = (machine.wall_ms + 8 * HOUR, machine.asleep_ms + 8 * HOUR);
    let slept = machine.pass(1_000).unwrap();
    assert_eq!((slept.event, slept.moved_milliseconds), (ClockEvent::Slept, 0));
    assert_eq!(slept.by_milliseconds, (8 * HOUR).cast_signed());
    assert_eq!(machine.ages(), AgeTime { wall: machine.now().wall, may_expire: true });
    // A pause that only the host knows of looks like a step, and is treated as one.
    machine.wall_ms += 8 * HOUR;
    assert_eq!(event(machine.pass(1_000)), Some(ClockEvent::Forward));
    assert!(!machine.ages().may_expire);
}

#[test]
fn a_clock_that_wanders_ahead_stays_doubted_until_it_is_where_it_should_be() {
    let (mut machine, _) = Machine::start(START, None);
    machine.set((10 * DAY).cast_signed());
    machine.pass(GRACE_SECONDS * 1_000 - 5_000);
    assert_eq!(event(machine.set(-(4 * DAY).cast_signed())), Some(ClockEvent::Back));
    assert_eq!(machine.pass(GRACE_SECONDS * 1_000 - 1), None, "the grace begins again");
    assert!(!machine.ages().may_expire);
    assert_eq!(event(machine.set(-(7 * DAY).cast_signed())), Some(ClockEvent::Back), "behind what was known");
    let now = machine.now().wall;
    assert_eq!(machine.ages(), AgeTime { wall: now, may_expire: false }, "not where it should be either");
    assert_eq!(event(machine.pass(GRACE_SECONDS * 1_000)), Some(ClockEvent::Believed));
    assert_eq!(event(machine.set(DAY.cast_signed())), Some(ClockEvent::Forward));
    assert!(!machine.ages().may_expire);
}

/// No part of the way back is a step, the way is; a model that looked at the parts alone called it doubted.
#[test]
fn a_clock_that_is_set_back_in_parts_is_right_again() {
    let (mut machine, _) = Machine::start(START, Some(START));
    machine.pass(HOUR);
    assert_eq!(event(machine.set(60_001)), Some(ClockEvent::Forward));
    assert_eq!((machine.set(0), machine.set(-288)), (None, None));
    assert!(!machine.ages().may_expire);
    let right = machine.set(-59_713).unwrap();
    assert_eq!((right.event, right.moved_milliseconds), (ClockEvent::Right, -59_713));
    assert_eq!(machine.ages(), AgeTime { wall: machine.now().wall, may_expire: true });
}

#[test]
fn small_corrections_do_not_hide_a_step() {
    for step in [60_001, -60_001] {
        let (mut machine, _) = Machine::start(START, Some(START));
        for _ in 0..3 {
            assert_eq!(machine.set(-step / 12), None);
        }
        let expected = if step > 0 { ClockEvent::Forward } else { ClockEvent::Back };
        assert_eq!(event(machine.set(step)), Some(expected));
    }
}

/// An event in a machine's life.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Set(i64),
    Sleep(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let year = 365 * DAY.cast_signed();
    let step = prop_oneof![
        6 => (0..2 * HOUR).prop_map(Step::Pass),
        2 => (-10_000i64..10_000).prop_map(Step::Set),
        2 => (-3 * HOUR.cast_signed()..3 * HOUR.cast_signed()).prop_map(Step::Set),
        1 => (-60 * year..60 * year).prop_map(Step::Set),
        1 => (0..9 * HOUR).prop_map(Step::Sleep),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn nothing_expires_within_the_grace_and_everything_may_after_it(
        steps in steps(),
        ahead in -400_000_000i64..400_000_000,
    ) {
        let (mut machine, change) = Machine::start(START, Some(START.saturating_add_signed(-ahead)));
        // By the machine alone: the last step forward that the clock has not been set back behind.
        let mut forward_at = event(change).filter(|event| *event == ClockEvent::StartedAhead).map(|_| machine.moment_ms);
        for step in steps {
            let before = machine.clone();
            let change = match step {
                Step::Pass(ms) => machine.pass(ms),
                Step::Set(by) => machine.set(by),
                Step::Sleep(ms) => {
                    machine.asleep_ms += ms;
                    machine.wall_ms += ms;
                    machine.pass(0)
                }
            };
            let real = before.now();
            let forward = machine.wall_ms.cast_signed()
                - real.wall.0.cast_signed()
                - (machine.moment_ms - before.moment_ms + machine.asleep_ms - before.asleep_ms).cast_signed();
            if forward > STEP_MILLISECONDS {
                prop_assert_eq!(event(change), Some(ClockEvent::Forward));
                forward_at = Some(machine.moment_ms);
            }
            let is_back = matches!(event(change), Some(ClockEvent::Back | ClockEvent::Right));
            prop_assert!(is_back || forward >= -STEP_MILLISECONDS);
            if is_back && machine.clock.may_expire() {
                // Set back, at once or in parts, to or behind what was known: nothing is older than it was.
                prop_assert!(machine.wall_ms <= change.unwrap().known.0 + STEP_SECONDS * 1_000);
                forward_at = None;
            }
            if let Some(at) = forward_at && machine.moment_ms - at < GRACE_SECONDS * 1_000 {
                prop_assert!(!machine.ages().may_expire, "{:?}", machine.clock);
            }
            prop_assert!(machine.ages().wall <= machine.clock.wall(machine.now().moment));
            prop_assert!(machine.clock.known(machine.now().moment) <= machine.ages().wall);
            prop_assert_eq!(machine.clock.wall(machine.now().moment), machine.now().wall);
            prop_assert_eq!(machine.clock.doubted().is_none(), machine.clock.may_expire());
        }
        machine.pass(GRACE_SECONDS * 1_000);
        prop_assert_eq!(machine.ages(), AgeTime { wall: machine.now().wall, may_expire: true });
    }

    #[test]
    fn what_lives_for_a_time_lives_it_by_the_clock_that_can_not_be_set(
        steps in steps(),
        life in HOUR..400 * DAY,
    ) {
        let (mut machine, _) = Machine::start(START, None);
        let made = machine.now();
        let mut stepped_at = None;
        for step in steps {
            let change = match step {
                Step::Pass(ms) => machine.pass(ms),
                Step::Set(by) => machine.set(by),
                Step::Sleep(_) => None,
            };
            if matches!(event(change), Some(ClockEvent::Forward)) {
                stepped_at = Some(machine.moment_ms);
            }
            let ages = machine.ages();
            if ages.may_expire && ages.wall.0 >= made.wall.0 + life {
                let lived = machine.moment_ms - made.moment.0 / 1_000;
                let drift = (lived / (WINDOW_SECONDS * 1_000) + 2) * STEP_SECONDS * 1_000;
                let has_had_its_grace =
                    stepped_at.is_some_and(|at| machine.moment_ms - at >= GRACE_SECONDS * 1_000);
                prop_assert!(has_had_its_grace || lived + drift >= life, "{lived} of {life} ms");
                break;
            }
        }
    }
}
