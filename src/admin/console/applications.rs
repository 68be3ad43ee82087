//! Installed applications: which versions there are, and who has them.

use super::api::Api;
use super::devices;
use super::form::{Fields, Form};
use super::page::{Answer, Cell, Page, Table};
use crate::fleet::why::shell_word;
use crate::wire::api::url::with_query;
use crate::wire::api::{ApplicationQuery, InstalledApplication, Page as ListPage};

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let query = ApplicationQuery {
        device: fields.some("device"),
        name: fields.some("name"),
        version: fields.some("version"),
        limit: None,
        cursor: fields.some("cursor"),
    };
    let mut command = "musterctl application list".to_owned();
    for (name, value) in [("device", &query.device), ("name", &query.name), ("version", &query.version)] {
        if let Some(value) = value {
            command = format!("{command} --{name} {}", shell_word(value));
        }
    }
    let page = Page::new("/applications", "Applications").command(command).with(
        Form::get("/applications", "")
            .line("name", "Name", fields.get("name"), "* stands for any text, ? for one character")
            .line("version", "Version", fields.get("version"), "such as <3.0.14")
            .line("device", "On the device", fields.get("device"), "its name or id; empty: on all")
            .button("", "Show"),
    );
    let list: ListPage<InstalledApplication> = match api.get(&with_query("/v1/applications", &query)).await {
        Ok(list) => list,
        Err(error) => return page.wrong(Some(error)).into(),
    };
    let next = list.next_cursor.map(|cursor| {
        with_query("/applications", &ApplicationQuery { cursor: Some(cursor), ..query.clone() })
    });
    let rows = list.items.into_iter().map(|one| {
        let who = devices::url(&devices::term("app", &format!("{}={}", one.name, one.version)));
        [
            Cell::text(one.name),
            Cell::text(one.version),
            Cell::text(one.publisher),
            Cell::link(who, super::text::many(one.devices, "device")),
        ]
    });
    let heads = ["Name", "Version", "Publisher", "Installed on"];
    page.with(Table::new("Applications", heads, "Nothing like that is installed.").rows(rows).next(next))
        .into()
}
