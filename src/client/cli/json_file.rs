//! Files of JSON that the command line names.

use std::fmt::Display;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::Failure;
use crate::wire::limits::SETTINGS_BYTES_MAX;

/// Most that is read of a file: blanks do not count against the limit of what is set.
const FILE_BYTES_MAX: u64 = 16 * SETTINGS_BYTES_MAX as u64;

/// Reads the JSON object of a file, or of standard input when its name is '-', as `parse` takes it.
///
/// # Errors
/// Wrong usage, with the file's name before what is wrong with it.
pub(super) fn read<E: Display>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<Map<String, Value>, E>,
) -> Result<Map<String, Value>, Failure> {
    let is_standard_input = path.as_os_str() == "-";
    let name = if is_standard_input { "standard input".into() } else { path.display().to_string() };
    let wrong = |error: &dyn Display| Failure::Usage(format!("{name}: {error}"));
    let text = if is_standard_input { whole(io::stdin()) } else { std::fs::File::open(path).and_then(whole) };
    parse(&text.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))
}

/// All of it, or an error when that is too much: the beginning of a document would be called wrong JSON.
fn whole(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_called_so() {
        let longest = usize::try_from(FILE_BYTES_MAX).unwrap();
        assert_eq!(whole(&*vec![b' '; longest]).unwrap().len(), longest);
        let error = whole(&*vec![b' '; longest + 1]).unwrap_err();
        assert_eq!(error.to_string(), "more than 524288 bytes");
        assert!(whole(&b"\xff"[..]).is_err(), "no UTF-8");
    }

    #[test]
    fn the_file_is_named_with_what_is_wrong() {
        let parse = |_: &str| Err::<Map<String, Value>, _>("not to be read");
        let Err(Failure::Usage(text)) = read(Path::new("/nowhere/x.json"), parse) else { panic!() };
        assert!(text.starts_with("/nowhere/x.json: No such file"), "{text}");
    }
}
