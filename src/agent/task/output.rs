//! Output of a run's program: its beginning and its end are kept, lines of progress are taken out.

use std::collections::VecDeque;

use super::files::Progress;
use crate::wire::bounded::clip;
use crate::wire::limits::{RUN_OUTPUT_PART_BYTES_MAX, TEXT_BYTES_MAX};

/// Prefix of a line of progress.
const PROGRESS_PREFIX: &[u8] = b"progress: ";

/// Longest line of progress; a longer one is output.
const PROGRESS_LINE_BYTES_MAX: usize = 1024;

/// Part of the end that is looked through for the last line.
const LAST_LINE_BYTES_MAX: usize = 4 * 1024;

/// The first and the last bytes of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputKeeper {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    omitted_bytes: u64,
}

impl OutputKeeper {
    /// More was written.
    pub fn add(&mut self, bytes: &[u8]) {
        let room = RUN_OUTPUT_PART_BYTES_MAX - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let skipped = rest.len().saturating_sub(RUN_OUTPUT_PART_BYTES_MAX);
        let surplus = (self.tail.len() + rest.len() - skipped).saturating_sub(RUN_OUTPUT_PART_BYTES_MAX);
        self.tail.drain(..surplus);
        self.tail.extend(&rest[skipped..]);
        self.omitted_bytes += (surplus + skipped) as u64;
    }

    /// Beginning, end, and how many bytes between them were not kept.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, Vec<u8>, u64) {
        (self.head, self.tail.into(), self.omitted_bytes)
    }

    /// The last lines that have something in them, last first.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        let all = self.head.iter().chain(&self.tail);
        let skipped = (self.head.len() + self.tail.len()).saturating_sub(LAST_LINE_BYTES_MAX);
        let end: Vec<u8> = all.skip(skipped).copied().collect();
        let text = String::from_utf8_lossy(&end);
        text.lines().rev().map(str::trim).filter(|line| !line.is_empty()).map(clipped).collect()
    }
}

/// A text that fits a message.
#[must_use]
pub fn clipped(text: &str) -> String {
    clip(text, TEXT_BYTES_MAX).to_owned()
}

/// Tells lines of progress from output, whatever pieces it comes in.
#[derive(Debug, Default)]
pub struct LineFilter {
    /// The current line, while it may still become one of progress.
    held: Vec<u8>,
    /// The current line is output.
    is_output: bool,
}

impl LineFilter {
    /// More was written: what of it is output goes to `keeper`; the last line of progress in it is returned.
    pub fn add(&mut self, bytes: &[u8], keeper: &mut OutputKeeper) -> Option<Progress> {
        let mut progress = None;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = line.ends_with(b"\n");
            if self.is_output {
                keeper.add(line);
                self.is_output = !is_whole;
                continue;
            }
            self.held.extend_from_slice(line);
            let begun = self.held.len().min(PROGRESS_PREFIX.len());
            let may_be_progress =
                self.held[..begun] == PROGRESS_PREFIX[..begun] && self.held.len() <= PROGRESS_LINE_BYTES_MAX;
            if may_be_progress && !is_whole {
                continue;
            }
            match parse(&self.held).filter(|_| may_be_progress) {
                Some(found) => progress = Some(found),
                None => keeper.add(&self.held),
            }
            self.held.clear();
            self.is_output = !is_whole;
        }
        progress
    }

    /// Nothing follows: what was held is a line of its own.
    pub fn end(&mut self, keeper: &mut OutputKeeper) -> Option<Progress> {
        let held = std::mem::take(&mut self.held);
        let progress = parse(&held);
        if progress.is_none() {
            keeper.add(&held);
        }
        progress
    }
}

/// `progress: 40 copying files`, 0 to 100, or `progress: - text` when it is not known how much.
fn parse(line: &[u8]) -> Option<Progress> {
    let text = std::str::from_utf8(line.strip_prefix(PROGRESS_PREFIX)?).ok()?.trim();
    let (number, message) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let percent = match number.trim_end_matches('%') {
        "-" => None,
        number => Some(number.parse().ok().filter(|percent| *percent <= 100)?),
    };
    Some(Progress { percent, message: message.trim().to_owned() })
}

/// `again: 600`: in how many seconds to come again.
#[must_use]
pub fn again_seconds(line: &str) -> Option<u32> {
    line.strip_prefix("again:")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Progress>) {
        let (mut filter, mut keeper) = (LineFilter::default(), OutputKeeper::default());
        let mut progress: Vec<Progress> =
            pieces.iter().filter_map(|piece| filter.add(piece, &mut keeper)).collect();
        progress.extend(filter.end(&mut keeper));
        (keeper.finish().0, progress)
    }

    #[test]
    fn lines_of_progress_are_taken_out() {
        let (output, progress) = through(&[b"a\nprogr", b"ess: 40 copy", b"ing files\nb\nprogress: 100"]);
        assert_eq!(output, b"a\nb\n");
        let expected = [(Some(40), "copying files"), (Some(100), "")];
        assert!(progress.iter().map(|p| (p.percent, p.message.as_str())).eq(expected), "{progress:?}");
        let lines: &[u8] = b"progress: 101 x\n progress: 1\nprogress: much\nprogress:5\n";
        assert_eq!(through(&[lines]), (lines.to_vec(), Vec::new()));
        assert_eq!(through(&[b"progress: - waiting"]).1[0].percent, None);
    }

    #[test]
    fn the_last_lines_are_found() {
        let mut keeper = OutputKeeper::default();
        keeper.add(b"first\nsecond\nagain: 60\n\n  \n");
        assert_eq!(keeper.last_lines(), ["again: 60", "second", "first"]);
        assert_eq!(again_seconds("again: 60"), Some(60));
        assert_eq!(again_seconds("again: soon"), None);
        assert!(OutputKeeper::default().last_lines().is_empty());
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let text = "ü".repeat(TEXT_BYTES_MAX);
        assert_eq!(clipped(&text).len(), TEXT_BYTES_MAX);
        assert_eq!(clipped(&format!("a{text}")).len(), TEXT_BYTES_MAX - 1);
    }

    proptest! {
        /// Whatever the pieces: the first and the last bytes are kept, in order, and all others are counted.
        #[test]
        fn beginning_and_end_are_kept(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..5)) {
            let mut keeper = OutputKeeper::default();
            pieces.iter().for_each(|piece| keeper.add(piece));
            let all = pieces.concat();
            let (head, tail, omitted) = keeper.finish();
            let cut = all.len().min(RUN_OUTPUT_PART_BYTES_MAX);
            prop_assert_eq!(&head, &all[..cut]);
            let tail_from = cut.max(all.len().saturating_sub(RUN_OUTPUT_PART_BYTES_MAX));
            prop_assert_eq!(&tail, &all[tail_from..]);
            prop_assert_eq!(omitted, (tail_from - cut) as u64);
        }

        /// The cuts between reads change nothing.
        #[test]
        fn pieces_do_not_matter(lines in prop::collection::vec("progress: [0-9]{1,3}( [a-z]{0,5})?|[a-z :]{0,14}", 0..8), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let text = lines.join("\n").into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let (whole, cut) = (through(&[&text]), through(&pieces));
            prop_assert_eq!(whole.0, cut.0);
        }
    }
}
