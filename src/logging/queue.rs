//! Lines that wait to be written.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::{Condvar, Mutex};

/// Most bytes that wait; as many again may be with the thread that writes.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

/// Share of it for warnings and errors alone: a flood of information must not hide them.
const RESERVE_BYTES: usize = 64 * 1024;

/// Memory that is kept when nothing waits.
const KEPT_BYTES: usize = 4 * 1024;

/// Pause before another try with a standard error that somebody made non-blocking.
const RETRY_MILLISECONDS: u64 = 20;

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines that were dropped behind these.
    dropped: u64,
    /// When to look for summaries though no line comes.
    look_at: Option<Instant>,
    is_writing: bool,
}

/// The queue between the threads that log and the one that writes.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    has_work: Condvar,
    is_done: Condvar,
    dropped: AtomicU64,
}

impl Queue {
    /// Lines that were dropped since the start.
    pub(super) fn lines_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Puts a line in, or drops it when there is no room. Never waits for the writing.
    pub(super) fn push(&self, level: Level, line: &[u8]) {
        let room = if level <= Level::Warn { QUEUE_BYTES_MAX } else { QUEUE_BYTES_MAX - RESERVE_BYTES };
        let mut waiting = self.waiting.lock();
        if waiting.bytes.len() + line.len() > room {
            waiting.dropped += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        self.has_work.notify_one();
    }

    /// Has the writing thread ask for summaries after this time, if no line comes before.
    pub(super) fn look_in(&self, time: Duration) {
        self.waiting.lock().look_at.get_or_insert(Instant::now() + time);
        self.has_work.notify_one();
    }

    /// Waits until everything is written, summaries that were due later among it, at most for so long.
    pub(super) fn flush(&self, time: Duration) {
        let now = Instant::now();
        let until = now + time;
        let mut waiting = self.waiting.lock();
        if let Some(at) = &mut waiting.look_at {
            *at = now;
            self.has_work.notify_one();
        }
        while !waiting.bytes.is_empty() || waiting.is_writing || waiting.look_at.is_some() {
            if self.is_done.wait_until(&mut waiting, until).timed_out() {
                return;
            }
        }
    }

    /// Writes what comes, for as long as the process lives. `more` says which lines to add: given how many
    /// lines were dropped behind those that were just taken, and whether it is time for summaries.
    pub(super) fn write(&self, mut out: impl Write, more: impl Fn(u64, bool) -> String) {
        let mut bytes = Vec::new();
        loop {
            let (dropped, is_time) = self.take(&mut bytes);
            bytes.extend_from_slice(more(dropped, is_time).as_bytes());
            if !write_all(&mut out, &bytes) {
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
                self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            }
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES);
        }
    }

    /// Waits until there is something to write, and takes it. Returns how many lines were dropped behind it,
    /// and whether it is time for summaries.
    fn take(&self, bytes: &mut Vec<u8>) -> (u64, bool) {
        let mut waiting = self.waiting.lock();
        waiting.is_writing = false;
        let is_time = loop {
            let is_time = waiting.look_at.take_if(|at| *at <= Instant::now()).is_some();
            if is_time || !waiting.bytes.is_empty() || waiting.dropped > 0 {
                break is_time;
            }
            self.is_done.notify_all();
            match waiting.look_at {
                None => self.has_work.wait(&mut waiting),
                Some(at) => {
                    self.has_work.wait_until(&mut waiting, at);
                }
            }
        };
        waiting.is_writing = true;
        std::mem::swap(&mut waiting.bytes, bytes);
        (std::mem::take(&mut waiting.dropped), is_time)
    }
}

/// Whether everything was written.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return false,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(RETRY_MILLISECONDS));
            }
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;
    use std::sync::Arc;

    use super::*;

    fn queue_into(out: impl Write + Send + 'static) -> Arc<Queue> {
        let queue = Arc::new(Queue::default());
        let writer = Arc::clone(&queue);
        std::thread::spawn(move || writer.write(out, |dropped, _| format!("{dropped} dropped\n")));
        queue
    }

    /// The thread that writes lives as long as the process, as in a program; so does the test's.
    #[test]
    fn a_pipe_that_nobody_reads_drops_lines_and_says_so_when_somebody_does() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = queue_into(writer);
        let line = [b"x".repeat(99).as_slice(), b"\n"].concat();
        // Twice what queue and thread hold, and what the pipe holds (pipe(7): 64 KiB).
        let sent = 2 * (2 * QUEUE_BYTES_MAX + 65_536) / line.len();
        for _ in 0..sent {
            queue.push(Level::Info, &line);
        }
        let dropped = queue.lines_dropped();
        assert!(dropped > 0 && dropped < sent as u64, "{dropped} of {sent}");
        queue.push(Level::Error, b"an error has room\n");
        assert_eq!(queue.lines_dropped(), dropped);
        queue.flush(Duration::from_millis(10));

        // The thread may have taken some before the queue was full: it says each time how many it lacks.
        let (mut lines, mut told, mut has_error) = (0, 0, false);
        let mut reader = io::BufReader::new(reader).lines();
        while !(has_error && told == dropped) {
            let text = reader.next().unwrap().unwrap();
            match text.strip_suffix(" dropped") {
                Some(count) => told += count.parse::<u64>().unwrap(),
                None if text.as_bytes() == &line[..99] => lines += 1,
                None => has_error |= text == "an error has room",
            }
        }
        assert_eq!(lines + dropped, sent as u64);
        queue.push(Level::Info, &line);
        queue.flush(Duration::from_secs(30));
        assert!(queue.waiting.lock().bytes.is_empty());
    }

    #[test]
    fn lines_that_nobody_can_be_given_are_dropped_and_counted() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let queue = queue_into(writer);
        queue.push(Level::Info, b"a\nb\n");
        queue.flush(Duration::from_secs(30));
        // With the line that says how many were dropped before.
        assert_eq!(queue.lines_dropped(), 3);
    }
}
