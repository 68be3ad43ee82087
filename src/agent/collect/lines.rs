//! Lines of a file that somebody else wrote, one buffer for all of them.

use std::io::{self, BufRead};

/// Longest line that is looked at; the rest of a longer one is skipped. The fields that we read are names and
/// versions; what is long are dependencies and descriptions.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// Hands each line, without its end and cut at [`LINE_BYTES_MAX`], to `each`. Bytes that are not UTF-8 are
/// replaced.
pub(super) fn each_line(mut reader: impl BufRead, mut each: impl FnMut(&str)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            if !line.is_empty() {
                each(&String::from_utf8_lossy(&line));
            }
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&piece[..piece.len().min(room)]);
        let used = piece.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            each(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
}
