//! Tags that devices have or are given by a rule, and views.
//!
//! A rule is asked whenever somebody asks for the tag, so that it is true at every moment, also of what
//! changes by time alone.

use rusqlite::Connection;

use super::matching::{Bits, Question, with_tag};
use super::{Moment, Selection};
use crate::fleet::filter::{Filter, Lookup};
use crate::store::devices::number_of;
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::{LABEL_BYTES_MAX, Tag, View};
use crate::wire::id::DeviceId;

/// Most tags, and most views. The rules of all tags are asked when tags are listed.
pub const LABELS_MAX: u64 = 256;

/// A tag as it is stored.
pub(super) struct StoredTag {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) rule: Option<String>,
}

pub(super) fn tags(connection: &Connection) -> Result<Vec<StoredTag>, StoreError> {
    connection.all("SELECT id, name, rule FROM tags ORDER BY name", [], |row| {
        Ok(StoredTag { id: row.get(0)?, name: row.get(1)?, rule: row.get(2)? })
    })
}

/// The filter of a view.
pub(super) fn view(connection: &Connection, name: &str) -> Result<Filter, StoreError> {
    let sql = "SELECT filter FROM views WHERE name = ?1";
    let text: Option<String> = connection.perhaps(sql, [name], |row| row.get(0))?;
    stored(&text.ok_or_else(|| StoreError::NoLabel { kind: "view", name: name.to_owned() })?)
}

/// A filter that was checked before it was stored.
pub(super) fn stored(text: &str) -> Result<Filter, StoreError> {
    text.parse().map_err(|error| StoreError::BadLabel(format!("the stored filter '{text}': {error}")))
}

impl Selection {
    /// Gives these devices a tag, which is made when it isn't there, or takes it from them; waits until that
    /// is durable. The number of devices for which that changed something.
    ///
    /// # Errors
    /// When its name is none, there are too many, there is none to be taken, or it could not be stored.
    pub fn tag(&self, name: &str, devices: Vec<DeviceId>, takes: bool) -> Result<u64, StoreError> {
        let name = name.to_owned();
        self.devices.database().call(move |connection| {
            let tag = if takes { find_tag(connection, &name)? } else { find_or_create(connection, &name)? };
            let sql = if takes {
                "DELETE FROM device_tags WHERE tag = ?1 AND device = ?2"
            } else {
                "INSERT OR IGNORE INTO device_tags (tag, device) VALUES (?1, ?2)"
            };
            let mut changed = 0;
            for device in devices {
                match number_of(connection, device) {
                    Ok(number) => changed += connection.run(sql, [tag, number])? as u64,
                    // It went a moment ago.
                    Err(StoreError::NoDevice(_) | StoreError::DeviceRemoved(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(changed)
        })
    }

    /// Gives a tag, which is made when it isn't there, to the devices of a filter, whatever becomes of them;
    /// or to none but those that were given it. Waits until that is durable.
    ///
    /// # Errors
    /// As [`Selection::tag`], and when the rule names a tag or a view.
    pub fn set_rule(&self, name: &str, rule: Option<&Filter>) -> Result<(), StoreError> {
        let is_label = |lookup: &Lookup| matches!(lookup, Lookup::Tag(_) | Lookup::View(_));
        if rule.is_some_and(|rule| rule.lookups().iter().any(is_label)) {
            let message = "a rule names no tag and no view, so that none hangs on itself";
            return Err(StoreError::BadLabel(message.into()));
        }
        let (name, rule) = (name.to_owned(), rule.map(Filter::to_string));
        self.devices.database().call(move |connection| {
            let tag = find_or_create(connection, &name)?;
            connection.run("UPDATE tags SET rule = ?2 WHERE id = ?1", (tag, rule)).map(drop)
        })
    }

    /// Takes a tag from all devices, with its rule; waits until that is durable.
    ///
    /// # Errors
    /// When there is none, or it could not be stored.
    pub fn remove_tag(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.devices.database().call(move |connection| {
            let tag = find_tag(connection, &name)?;
            connection.run("DELETE FROM device_tags WHERE tag = ?1", [tag])?;
            connection.run("DELETE FROM tags WHERE id = ?1", [tag]).map(drop)
        })
    }

    /// All tags, by name, with the number of devices that have each.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tags(&self, moment: Moment) -> Result<Vec<Tag>, StoreError> {
        self.ask(|index, connection| {
            let scope = self.scope(index, connection, moment);
            let count = |tag: StoredTag| {
                let mut having = Bits::new(index);
                with_tag(scope, &tag, &mut having)?;
                let devices = having.count();
                Ok(Tag { name: tag.name, rule: tag.rule, devices })
            };
            tags(connection)?.into_iter().map(count).collect()
        })
    }

    /// The names of the tags that a device has. The index is not read for it unless some tag has a rule.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tags_of(&self, device: DeviceId, moment: Moment) -> Result<Vec<String>, StoreError> {
        let reader = self.devices.database().reader()?;
        let number = number_of(&reader, device)?;
        let sql = "SELECT tag FROM device_tags WHERE device = ?1";
        let given: Vec<i64> = reader.all(sql, [number], |row| row.get(0))?;
        let (mut names, mut rules) = (Vec::new(), Vec::new());
        for tag in tags(&reader)? {
            match tag.rule {
                _ if given.contains(&tag.id) => names.push(tag.name),
                Some(rule) => rules.push((tag.name, stored(&rule)?)),
                None => {}
            }
        }
        if !rules.is_empty() {
            self.ask(|index, connection| {
                let (scope, place) = (self.scope(index, connection, moment), index.place(number));
                for (name, rule) in rules {
                    let question = Question::new(scope, &rule)?;
                    names.extend(place.is_some_and(|place| question.lets_through(place)).then_some(name));
                }
                Ok(())
            })?;
            names.sort_unstable();
        }
        Ok(names)
    }

    /// Gives a filter a name, or a name another filter; waits until that is durable.
    ///
    /// # Errors
    /// When the name is none, the filter names a view, there are too many, or it could not be stored.
    pub fn save_view(&self, name: &str, filter: &Filter) -> Result<(), StoreError> {
        check_name(name)?;
        if filter.lookups().iter().any(|lookup| matches!(lookup, Lookup::View(_))) {
            return Err(StoreError::BadLabel("a view names no view, so that none hangs on itself".into()));
        }
        let (name, filter) = (name.to_owned(), filter.to_string());
        self.devices.database().call(move |connection| {
            if !connection.has_row("SELECT 1 FROM views WHERE name = ?1", [&name])? {
                check_room(connection, "view")?;
            }
            let sql = "INSERT INTO views (name, filter) VALUES (?1, ?2)
                ON CONFLICT (name) DO UPDATE SET filter = excluded.filter";
            connection.run(sql, [name, filter]).map(drop)
        })
    }

    /// Removes a view; waits until that is durable.
    ///
    /// # Errors
    /// When there is none, or it could not be stored.
    pub fn remove_view(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.devices.database().call(move |connection| {
            match connection.run("DELETE FROM views WHERE name = ?1", [&name])? {
                0 => Err(StoreError::NoLabel { kind: "view", name }),
                _ => Ok(()),
            }
        })
    }

    /// All views, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn views(&self) -> Result<Vec<View>, StoreError> {
        let sql = "SELECT name, filter FROM views ORDER BY name";
        let view = |row: &rusqlite::Row<'_>| Ok(View { name: row.get(0)?, filter: row.get(1)? });
        self.devices.database().reader()?.all(sql, [], view)
    }
}

/// Names need no quotes in a filter.
fn check_name(name: &str) -> Result<(), StoreError> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if (1..=LABEL_BYTES_MAX).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(StoreError::BadLabel(format!(
        "'{name}' can be no name of a tag or a view: letters, digits, '-', '_' and '.', at most {LABEL_BYTES_MAX} bytes"
    )))
}

fn check_room(connection: &Connection, kind: &'static str) -> Result<(), StoreError> {
    let count = connection.one(&format!("SELECT count(*) FROM {kind}s"), [], |row| row.number(0))?;
    if count < LABELS_MAX { Ok(()) } else { Err(StoreError::TooManyLabels { kind, count }) }
}

fn find_tag(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    let found = connection.perhaps("SELECT id FROM tags WHERE name = ?1", [name], |row| row.get(0))?;
    found.ok_or_else(|| StoreError::NoLabel { kind: "tag", name: name.to_owned() })
}

fn find_or_create(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    check_name(name)?;
    match find_tag(connection, name) {
        Err(StoreError::NoLabel { .. }) => {
            check_room(connection, "tag")?;
            connection.run("INSERT INTO tags (name) VALUES (?1)", [name])?;
            Ok(connection.last_insert_rowid())
        }
        found => found,
    }
}
