//! What a device is to have beyond what it says of itself: settings, and runs of tasks.
//!
//! All of it is one digest, in the device's record and in its row, which a sync compares with what the device says it has. Whatever
//! changes what a device is to have calls [`refresh`] in the same transaction, and tells the table after the commit.

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::table::DeviceTable;
use super::{Store, desired, device, task};
use crate::machine::command::{JobOutcome, Orders, OrdersAfter};
use crate::wire::digest::Digest;
use crate::wire::id::DeviceId;
use crate::wire::limits::ORDERS_BYTES_TARGET;
use crate::wire::message::{ErrorCode, ErrorReport};
use crate::wire::time::WallTime;

/// A device whose orders are others now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrdersChange {
    /// Which device.
    pub device: DeviceId,
    /// The digest of all that it is to have.
    pub digest: Digest,
}

/// Works the digest out anew and writes it into the device's row; what the table is to be told when it is another.
pub(super) fn refresh(connection: &Connection, number: i64) -> Result<Option<OrdersChange>, StoreError> {
    let settings = desired::digest_of(connection, number)?;
    let digest = settings.with(task::digest_of(connection, number)?);
    let sql = "UPDATE device_states SET orders_digest = ?2 WHERE device = ?1 AND orders_digest <> ?2";
    let changed = connection.prepare_cached(sql)?.execute(params![number, digest.0.cast_signed()])?;
    if changed == 0 {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached("SELECT id FROM devices WHERE number = ?1")?;
    let device = DeviceId(statement.query_row([number], |row| row.get::<_, i64>(0))?.cast_unsigned());
    Ok(Some(OrdersChange { device, digest }))
}

/// Tells the table. Called after the commit, by the writer's thread.
pub(super) fn tell(table: &DeviceTable, changes: &[OrdersChange]) {
    for change in changes {
        table.with(change.device, |record| record.orders = change.digest);
        table.mark(change.device);
    }
}

impl Store {
    /// What a device is to be told so that it has what it should, behind what it was told already: as much as
    /// is said at a time. Called on a worker's thread.
    #[must_use]
    pub fn orders(&self, device: DeviceId, after: Option<OrdersAfter>, now: WallTime) -> JobOutcome {
        match self.orders_of(device, after, now) {
            Ok((orders, None)) => JobOutcome::Orders(Box::new(orders)),
            Ok((orders, Some(after))) => JobOutcome::SomeOrders(Box::new(orders), after),
            Err(error @ (StoreError::DeviceRemoved(_) | StoreError::NoDevice(_))) => {
                JobOutcome::Refused(ErrorReport {
                    code: ErrorCode::DeviceRemoved,
                    message: error.to_string(),
                })
            }
            Err(error) => {
                log::warn!("device {device}: its orders could not be read: {error}");
                JobOutcome::Failed
            }
        }
    }

    fn orders_of(
        &self,
        device: DeviceId,
        after: Option<OrdersAfter>,
        now: WallTime,
    ) -> Result<(Orders, Option<OrdersAfter>), StoreError> {
        let reader = self.reader()?;
        let number = device::number_of(&reader, device)?;
        let (mut orders, mut room) = (Orders::default(), Room(ORDERS_BYTES_TARGET));
        let after_run = match after {
            Some(OrdersAfter::Run { released_at, run }) => Some((released_at, run)),
            None | Some(OrdersAfter::Application(_)) => {
                let after = after.and_then(|after| match after {
                    OrdersAfter::Application(name) => Some(name),
                    OrdersAfter::Run { .. } => None,
                });
                orders.settings = desired::orders_of(&reader, number, after.as_deref(), &mut room)?;
                None
            }
        };
        if room.is_used_up() {
            let last = orders.settings.last().map(|order| order.application.clone());
            return Ok((orders, last.map(OrdersAfter::Application)));
        }
        let (runs, last) = task::orders_of(&reader, number, after_run, now, &mut room)?;
        orders.runs = runs;
        if room.is_used_up() {
            return Ok((orders, last.map(|(released_at, run)| OrdersAfter::Run { released_at, run })));
        }
        orders.list = task::ids_at(&reader, number)?;
        Ok((orders, None))
    }
}

/// What may still be said at a time, in bytes.
pub(super) struct Room(usize);

impl Room {
    /// Takes room for one thing, which may be larger than what is left.
    pub(super) fn take(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.0 == 0
    }
}
