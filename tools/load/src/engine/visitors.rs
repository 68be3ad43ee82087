//! Devices that come with a full handshake, sync, and go again, a fixed number at a time: handshakes that
//! live links must not feel.

use std::collections::VecDeque;

use super::agent::Agent;
use super::commands::{Share, Visits};
use super::context::Context;
use super::counters::count;

/// Visitors that are started in one turn.
const STARTS_PER_TURN: usize = 32;

/// The visitors of one engine.
#[derive(Debug, Default)]
pub(crate) struct Visitors {
    waiting: VecDeque<u32>,
    under_way: usize,
    at_a_time: usize,
}

impl Visitors {
    pub(crate) fn begin(&mut self, visits: Visits, share: Share) {
        self.waiting = (0u32..).take(share.part(visits.devices)).collect();
        self.at_a_time = share.part(visits.at_a_time);
    }

    pub(crate) fn may_start(&self) -> bool {
        self.under_way < self.at_a_time && !self.waiting.is_empty()
    }

    /// Sends those home that are done, and starts others.
    pub(crate) fn go_on(&mut self, agents: &mut [Agent], cx: &mut Context) {
        while let Some(index) = cx.leaving.pop() {
            let Some(agent) = agents.get_mut(index as usize) else { continue };
            agent.stop(cx);
            count(&cx.counters.visits);
            self.under_way = self.under_way.saturating_sub(1);
            self.waiting.push_back(index);
        }
        for _ in 0..STARTS_PER_TURN {
            if !self.may_start() {
                break;
            }
            let Some(index) = self.waiting.pop_front() else { break };
            if let Some(agent) = agents.get_mut(index as usize)
                && !agent.is_running()
            {
                self.under_way += 1;
                agent.start(cx, index, true);
            }
        }
    }

    /// Nobody comes any more; those on their way turn round.
    pub(crate) fn stop(&mut self, agents: &mut [Agent], cx: &mut Context) {
        cx.leaving.clear();
        *self = Self::default();
        agents.iter_mut().filter(|agent| agent.is_visitor()).for_each(|agent| agent.stop(cx));
    }
}
