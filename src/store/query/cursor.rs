//! Cursors: the key of the last item of a page, as an opaque text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::store::error::StoreError;

/// A cursor behind the item with this key. `list` names the list, so that a cursor is not used in another.
pub(super) fn write(list: char, key: &[&str]) -> String {
    let mut fields = vec![list.to_string()];
    fields.extend(key.iter().map(|&field| field.to_owned()));
    URL_SAFE_NO_PAD.encode(serde_json::Value::from(fields).to_string())
}

/// The key in a cursor of this list, which has `N` fields.
pub(super) fn read<const N: usize>(list: char, cursor: &str) -> Result<[String; N], StoreError> {
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
        let cursor = write('d', &["nä\u{0}me", ""]);
        assert_eq!(read::<2>('d', &cursor).unwrap(), ["nä\u{0}me".to_owned(), String::new()]);
        for (list, text) in [('a', cursor.as_str()), ('d', ""), ('d', "%%%"), ('d', "ZA")] {
            assert!(matches!(read::<2>(list, text), Err(StoreError::BadCursor(_))), "{list} {text}");
        }
        assert!(read::<1>('d', &cursor).is_err());
    }
}
