//! Help: keys, and the language of filters.

use super::page::{Cell, Page, Part, Table};
use crate::fleet::filter::KEYS;

pub(super) async fn show() -> Page {
    let row = |key: &str, what: &str| [Cell::Code(key.to_owned()), Cell::text(what)];
    let keys = [
        row("/", "find devices"),
        row("?", "this page"),
        row("g d", "devices"),
        row("g e", "events"),
        row("g o", "overview"),
    ];
    let terms = KEYS.map(|example| [Cell::Code(example.to_owned())]);
    Page::new("/help", "Help")
        .command("musterctl --help")
        .with(Part::heading("Keys"))
        .with(Table::new("Keys", ["Key", "Leads to"], "").rows(keys))
        .with(Part::heading("Filters"))
        .with(Part::text(
            "A filter says which devices are meant. A word alone is looked for in names and host names. Conditions \
             that blanks join must all be so; 'or' joins alternatives, '-' or 'not' stands before what must not be so, and \
             parentheses group. Values with blanks stand in double quotes; '*' and '?' stand for what differs.",
        ))
        .with(Table::new("Terms of filters", ["Term"], "").rows(terms))
}
