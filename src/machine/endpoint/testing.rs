//! The rest of a server, as small as it can be: for tests, here and of fuzzing.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{AppendRefusal, Connection, Services};
use crate::machine::clones::Verdict;
use crate::machine::command::CallStep;
use crate::machine::device_state::DeviceState;
use crate::machine::session::SyncPolicy;
use crate::machine::session::testing::policy;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::message::Sync;
use crate::wire::time::Now;

/// A server without a store, a journal or another endpoint.
#[derive(Debug, Default)]
pub struct FakeServices {
    /// The devices that are known.
    pub records: RefCell<BTreeMap<DeviceId, DeviceState>>,
    /// Bytes of the events that were taken: the position of the last one.
    pub appended: Cell<u64>,
    /// Why no event is taken.
    pub refusal: Cell<Option<AppendRefusal>>,
    /// Links that were taken over by another one, count.
    pub taken_over: Cell<u32>,
    /// Treatment of devices that sync.
    pub verdict: Cell<Verdict>,
}

impl FakeServices {
    /// Knows these devices.
    pub fn new(devices: impl IntoIterator<Item = DeviceId>) -> Self {
        let records = devices.into_iter().map(|device| (device, DeviceState::new(device, 60))).collect();
        Self { records: RefCell::new(records), ..Self::default() }
    }
}

impl Services for FakeServices {
    type Record<'a> = RefMut<'a, DeviceState>;

    fn record(&self, device: DeviceId) -> Option<RefMut<'_, DeviceState>> {
        RefMut::filter_map(self.records.borrow_mut(), |records| records.get_mut(&device)).ok()
    }

    fn syncs(&self, _: &Now, _: &DeviceState, _: &Sync, _: Option<IpAddr>) -> Verdict {
        self.verdict.get()
    }

    fn taken_over(&self, _: &Now, _: DeviceId, _: Option<IpAddr>) {
        self.taken_over.set(self.taken_over.get() + 1);
    }

    fn policy(&self, record: Option<&DeviceState>, _: &Now) -> SyncPolicy {
        SyncPolicy { keep_seconds: record.map(|_| 20), ..policy() }
    }

    fn append(&self, _: &Now, _: DeviceId, _: Epoch, _: u64, body: &[u8]) -> Result<u64, AppendRefusal> {
        if let Some(refusal) = self.refusal.get() {
            return Err(refusal);
        }
        self.appended.set(self.appended.get() + body.len() as u64);
        Ok(self.appended.get())
    }

    fn events_held(&self, _: &Now, _: DeviceId, _: u32) {}

    fn settle(&self, _: &Now, _: &mut DeviceState) -> bool {
        false
    }

    fn server_restored(&self, _: DeviceId) {}

    fn called(&self, _: DeviceId, _: CallStep) {}

    fn probe(&self, _: DeviceId, _: SocketAddr, _: u32) {}

    fn devices_per_second(&self) -> u64 {
        100
    }

    fn reconnect_seconds(&self) -> u32 {
        10
    }
}

impl Connection for () {
    fn peer(&self) -> Option<IpAddr> {
        None
    }
}
