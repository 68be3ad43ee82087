//! Things that go by the server's clock: tasks that come again and again, join tokens, runs; by the real
//! rules, with a judge beside them that knows the true time.

use jiff::tz::TimeZone;
use muster::fleet::task::run::RunState;
use muster::fleet::task::schedule::Schedule;
use muster::machine::random::Random;
use muster::machine::task_clock::TaskTime;
use muster::machine::token::TokenLife;
use muster::machine::wall_clock::Stretch;
use muster::wire::id::RunId;
use muster::wire::time::{Moment, WallTime};

use super::server::{EXPIRY_MILLISECONDS, LEASE_SECONDS, OrderBook, TIMEOUT_SECONDS};
use crate::world::World;

const SECOND: u64 = 1_000_000;

/// Schedules, and how far apart they are due, in seconds.
const SCHEDULES: [(&str, u64); 6] = [
    ("every 1m", 60),
    ("every 10m", 600),
    ("every 30d", 30 * 86_400),
    ("cron */5 * * * *", 300),
    ("cron 7 * * * *", 3_600),
    ("cron 0 3 * * *", 86_400),
];

/// Distance by which a clock that was right may be set back without a run being repeated (cron(8)).
const SHIFT_SECONDS: u64 = 3 * 3_600;

/// Distance by which a clock may be off without anybody noticing, and the time that it takes to notice.
const UNNOTICED_SECONDS: u64 = 70;

const TASKS_MAX: usize = 6;
const TOKENS_MAX: usize = 6;

/// When something was made in truth, and what had gone wrong with the clock before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    /// In microseconds.
    pub(crate) at: u64,
    /// Steps of the clock that the server had noticed, and starts of it, which may take one over.
    troubles: u64,
}

#[derive(Clone)]
pub(crate) struct BookedTask {
    schedule: Schedule,
    period_seconds: u64,
    created_at: WallTime,
    due_at: Option<WallTime>,
    next_at: WallTime,
    made: Made,
    /// Number of times that it was begun, and the last time, in truth.
    begun: u64,
    begun_at: u64,
}

#[derive(Clone)]
pub(crate) struct BookedToken {
    life: TokenLife,
    ttl_seconds: u64,
    made: Made,
    /// In truth its time was over while the clock was right, and that was on disk.
    is_over: bool,
}

impl OrderBook {
    /// Puts right what the clock has made wrong, as the store does.
    pub(crate) fn correct_tokens(&mut self, known: WallTime, ran: Stretch, now: WallTime) {
        for token in &mut self.tokens {
            token.life.correct(known, ran, now);
        }
    }

    pub(crate) fn correct_tasks(&mut self, now: WallTime, was_right: bool) {
        for task in &mut self.tasks {
            task.next_at =
                task.schedule.bring_near(task.next_at, task.due_at, was_right, now, &TimeZone::UTC);
            task.created_at = task.created_at.min(now);
        }
    }

    /// Begins what is due.
    fn begin_tasks(&mut self, time: TaskTime, truth: u64) {
        let is_due =
            |task: &&mut BookedTask| task.next_at <= time.now && task.created_at >= time.holds_before;
        for task in self.tasks.iter_mut().filter(is_due) {
            let next = task.schedule.next(task.next_at, time.now, &TimeZone::UTC);
            task.due_at = Some(task.next_at);
            task.next_at = next.unwrap_or(WallTime(u64::MAX));
            (task.begun, task.begun_at) = (task.begun + 1, truth);
        }
    }

    fn make_task(&mut self, random: &mut Random, now: WallTime, made: Made) {
        let (schedule, period_seconds) = SCHEDULES[usize::try_from(random.up_to(5)).unwrap_or(0)];
        let Ok(schedule) = schedule.parse::<Schedule>() else { return };
        let Some(next_at) = schedule.first(now, &TimeZone::UTC) else { return };
        if self.tasks.len() >= TASKS_MAX {
            self.tasks.remove(0);
        }
        self.tasks.push(BookedTask {
            schedule,
            period_seconds,
            created_at: now,
            due_at: None,
            next_at,
            made,
            begun: 0,
            begun_at: made.at,
        });
    }

    fn make_token(&mut self, random: &mut Random, now: WallTime, made: Made) {
        let ttl_seconds = [10, 60, 3_600, 30 * 86_400][usize::try_from(random.up_to(3)).unwrap_or(0)];
        let expires_at = WallTime(now.0 + ttl_seconds * 1_000);
        if self.tokens.len() >= TOKENS_MAX {
            self.tokens.remove(0);
        }
        let life = TokenLife { created_at: now, expires_at, is_over: false };
        self.tokens.push(BookedToken { life, ttl_seconds, made, is_over: false });
    }
}

impl World {
    pub(crate) fn made(&self) -> Made {
        Made { at: self.now, troubles: self.noticed_troubles }
    }

    /// Distance by which time may be off in the life of what was made then.
    fn slack_seconds(&self, made: Made) -> u64 {
        (1 + self.clock_troubles - made.troubles) * UNNOTICED_SECONDS
    }

    /// Since it was made the clock was ahead at a start, which can't be told from a long stop, or was
    /// believed after a long time.
    fn is_excused(&self, made: Made) -> bool {
        self.server.clock.misled_at.is_some_and(|at| at >= made.at)
    }

    /// By chance, somebody makes a task that comes again and again, or a token, or tries one.
    pub(crate) fn change_what_goes_by_the_clock(&mut self) -> Result<(), String> {
        let (rate, made, now) = (self.rates.task, self.made(), self.book_now());
        if self.chance(rate / 2) {
            self.server.book.make_task(&mut self.random, now, made);
        }
        if self.chance(rate / 2) {
            self.server.book.make_token(&mut self.random, now, made);
        }
        if self.chance(300) {
            self.try_tokens(now)?;
        }
        Ok(())
    }

    /// Messages to a device that comes with each of them.
    fn try_tokens(&mut self, now: WallTime) -> Result<(), String> {
        for token in &self.server.book.tokens {
            let lived = (self.now - token.made.at) / SECOND;
            let (slack, troubles) =
                (self.slack_seconds(token.made), self.clock_troubles - token.made.troubles);
            let is_refused = token.life.is_over_at(now);
            let what = format!("a token of {} s, {lived} s old ({:?})", token.ttl_seconds, token.life);
            if is_refused && lived + slack < token.ttl_seconds && !self.is_excused(token.made) {
                return Err(format!("{what} is refused at {now}"));
            }
            let is_over = token.is_over && (!self.has_unnoticed || lived > token.ttl_seconds + slack);
            if !is_refused && (is_over || lived > (token.ttl_seconds + slack) * (1 + troubles)) {
                return Err(format!(
                    "{what} lets a device in at {now}, its time was over: {}",
                    token.is_over
                ));
            }
        }
        Ok(())
    }

    /// The wall time was written to disk: what was over by then, by a clock that had never been touched, is
    /// over for ever.
    pub(crate) fn note_known(&mut self) {
        let (now, troubles) = (self.now, self.clock_troubles);
        for token in &mut self.server.book.tokens {
            let lived = (now - token.made.at) / SECOND;
            token.is_over |= token.made.troubles == troubles && lived > token.ttl_seconds;
        }
    }

    /// Does what is due of tasks and runs, and judges it. The devices whose desired state is another then.
    pub(crate) fn step_book(&mut self) -> Result<Vec<muster::wire::id::DeviceId>, String> {
        let now = self.server_now();
        let time = self.server.task_time(now);
        if time.holds_before != WallTime(0) {
            self.tasks_from = self.now;
        }
        self.server.book.begin_tasks(time, self.now);
        let (changed, ended) = self.server.book.step(time, self.server.clock.serving_since);
        for run in ended {
            self.judge_end(run)?;
        }
        self.judge_tasks(time.now)?;
        Ok(changed)
    }

    fn judge_end(&mut self, id: RunId) -> Result<(), String> {
        let Some(booked) = self.server.book.runs.get(&id).filter(|booked| !self.is_excused(booked.made))
        else {
            return Ok(());
        };
        let slack = self.slack_seconds(booked.made);
        let seconds_since = |at: u64| self.now.saturating_sub(at) / SECOND + slack;
        let lived = seconds_since(booked.made.at);
        let silent = seconds_since(booked.heard.max(self.server.started.moment.0));
        let is_right = match booked.run.state {
            RunState::Expired => lived >= EXPIRY_MILLISECONDS / 1_000,
            RunState::TimedOut => {
                silent >= u64::from(LEASE_SECONDS) || lived >= u64::from(TIMEOUT_SECONDS + LEASE_SECONDS)
            }
            _ => true,
        };
        self.counts.ended_by_time += 1;
        let why = format!("run {id}, {lived} s old and silent for {silent} s, was ended: {:?}", booked.run);
        if is_right { Ok(()) } else { Err(why) }
    }

    fn judge_tasks(&mut self, now: WallTime) -> Result<(), String> {
        for task in &self.server.book.tasks {
            let shift = if matches!(task.schedule, Schedule::Cron(_)) { SHIFT_SECONDS } else { 0 };
            // One correction that nobody noticed may have been kept, and one more was not noticed yet.
            let longest = task.period_seconds + shift + 2 * UNNOTICED_SECONDS;
            let ahead = task.next_at.0.saturating_sub(now.0) / 1_000;
            let idle = (self.now - task.begun_at.max(task.made.at).max(self.tasks_from)) / SECOND;
            let lived = (self.now - task.made.at) / SECOND;
            let troubles = self.clock_troubles - task.made.troubles;
            // Each step may begin one, and so may the end of its doubt.
            let most = 2 + lived / task.period_seconds + 2 * troubles;
            if ahead > longest || idle > longest || task.begun > most {
                return Err(format!(
                    "a task due {}: begun {} times, last {idle} s ago, next in {ahead} s at {}",
                    task.schedule, task.begun, task.next_at
                ));
            }
            self.counts.occurrences = self.counts.occurrences.max(task.begun);
        }
        Ok(())
    }

    /// The time that tasks go by, as of the server's last look.
    pub(crate) fn book_now(&self) -> WallTime {
        self.server.clock.watch.ages(Moment(self.now)).wall
    }
}
