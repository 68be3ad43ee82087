//! Pages of lists. A cursor is the key of a page's last item, as an opaque text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::StoreError;
pub use crate::wire::api::Page;

/// Most items of one page.
pub const PAGE_ITEMS_MAX: usize = 1_000;

/// Which piece of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items, from 1 to [`PAGE_ITEMS_MAX`]; anything else is brought into these bounds.
    pub limit: usize,
    /// [`Page::next_cursor`] of the page before; `None`: from the beginning.
    pub cursor: Option<String>,
}

impl PageRequest {
    pub(super) fn items(&self) -> usize {
        self.limit.clamp(1, PAGE_ITEMS_MAX)
    }

    /// A page from a list that was read one item beyond it, each item with the key that its cursor has.
    pub(super) fn page<T, const N: usize>(
        &self,
        list: char,
        mut items: Vec<T>,
        key: impl Fn(&T) -> [String; N],
    ) -> Page<T> {
        let is_last = items.len() <= self.items();
        items.truncate(self.items());
        let next = items.last().filter(|_| !is_last).map(|last| write_cursor(list, key(last)));
        Page::new(items, next)
    }

    /// The key behind which the page begins, in a cursor of this list.
    pub(super) fn after<const N: usize>(&self, list: char) -> Result<Option<[String; N]>, StoreError> {
        self.cursor.as_deref().map(|text| read_cursor(list, text)).transpose()
    }

    /// One item beyond the page, for `LIMIT`.
    pub(super) fn limit(&self) -> i64 {
        i64::try_from(self.items() + 1).unwrap_or(i64::MAX)
    }

    /// The cursor is none of this list's.
    pub(super) fn bad_cursor(&self) -> StoreError {
        StoreError::BadCursor(self.cursor.iter().flat_map(|text| text.chars()).take(64).collect())
    }
}

/// A cursor behind the item with this key. `list` names the list, so that a cursor is not used in another.
fn write_cursor(list: char, key: impl IntoIterator<Item = String>) -> String {
    let mut fields = vec![list.to_string()];
    fields.extend(key);
    URL_SAFE_NO_PAD.encode(serde_json::Value::from(fields).to_string())
}

/// The key in a cursor of this list, which has `N` fields.
fn read_cursor<const N: usize>(list: char, cursor: &str) -> Result<[String; N], StoreError> {
    let bad = || StoreError::BadCursor(cursor.chars().take(64).collect());
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    let mut fields: Vec<String> = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    if fields.first() != Some(&list.to_string()) {
        return Err(bad());
    }
    fields.remove(0);
    fields.try_into().map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_belongs_to_one_list() {
        let cursor = write_cursor('d', ["nä\u{0}me".to_owned(), String::new()]);
        assert_eq!(read_cursor::<2>('d', &cursor).unwrap(), ["nä\u{0}me".to_owned(), String::new()]);
        for (list, text) in [('a', cursor.as_str()), ('d', ""), ('d', "%%%"), ('d', "ZA")] {
            assert!(matches!(read_cursor::<2>(list, text), Err(StoreError::BadCursor(_))), "{list} {text}");
        }
        assert!(read_cursor::<1>('d', &cursor).is_err());
    }
}
