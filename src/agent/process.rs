//! Running another program with a bound on its time and on what it may say.

use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::waiting::wait_for;

/// Answer of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, up to the limit.
    pub output: Vec<u8>,
}

impl Answer {
    /// Why the program, which is called `name`, has not done its work; `None`: it ended with code 0.
    #[must_use]
    pub fn failure(&self, name: &str) -> Option<String> {
        match self.code {
            Some(0) => None,
            Some(code) => Some(format!("{name} ended with code {code}")),
            None => Some(format!("a signal ended {name}")),
        }
    }
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It is not there.
    #[error("'{0}' is not installed")]
    NotThere(String),
    /// It could not be run.
    #[error("'{0}' can't be run: {1}")]
    Io(String, #[source] io::Error),
    /// It took too long and was ended.
    #[error("'{}' took longer than {} s and was ended", .0, .1.as_secs_f64())]
    TimedOut(String, Duration),
    /// It said more than it may, in bytes, and was ended.
    #[error("'{0}' wrote more than {1} bytes and was ended")]
    TooMuch(String, usize),
}

/// Interval at which a program that has closed its output is asked whether it has ended.
const EXIT_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Time that a program's output is waited for before it is asked whether it has ended.
const OUTPUT_INTERVAL: Duration = Duration::from_millis(20);

/// A program, its name first, with nothing to read and a process group of its own; and its name.
fn command<S: AsRef<str>>(words: &[S]) -> (Command, &str) {
    let mut words = words.iter().map(AsRef::as_ref);
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).env("LC_ALL", "C").process_group(0);
    (command, program)
}

fn failure(program: &str, source: io::Error) -> ProcessError {
    match source.kind() {
        io::ErrorKind::NotFound => ProcessError::NotThere(program.to_owned()),
        _ => ProcessError::Io(program.to_owned(), source),
    }
}

/// Runs a program, its name first, to its end. Blocks for `timeout` at most.
///
/// # Errors
/// When it is not there, takes longer than `timeout` or writes more than `output_bytes_max`. It and what it
/// started have been ended then.
pub fn run<S: AsRef<str>>(
    words: &[S],
    timeout: Duration,
    output_bytes_max: usize,
) -> Result<Answer, ProcessError> {
    let (mut command, program) = command(words);
    let wrap = |source| failure(program, source);
    let timed_out = || ProcessError::TimedOut(program.to_owned(), timeout);
    let deadline = Instant::now() + timeout;
    let mut group = Group(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(wrap)?);
    let output = group.read(deadline, output_bytes_max).map_err(wrap)?.ok_or_else(timed_out)?;
    if output.len() > output_bytes_max {
        return Err(ProcessError::TooMuch(program.to_owned(), output_bytes_max));
    }
    loop {
        if let Some(status) = group.0.try_wait().map_err(wrap)? {
            return Ok(Answer { code: status.code(), output });
        }
        if Instant::now() >= deadline {
            return Err(timed_out());
        }
        std::thread::sleep(EXIT_CHECK_INTERVAL);
    }
}

/// Runs a program, its name first, until it has ended itself: what it started may go on, as a daemon does.
/// Its answer holds the end of what it wrote to its standard output and standard error, up to
/// `output_bytes_max`. Blocks for `timeout` at most.
///
/// # Errors
/// When it is not there or takes longer than `timeout`. It and what it started have been ended then.
pub fn run_to_end(
    words: &[String],
    timeout: Duration,
    output_bytes_max: usize,
) -> Result<Answer, ProcessError> {
    let (mut command, program) = command(words);
    let wrap = |source| failure(program, source);
    let deadline = Instant::now() + timeout;
    let (mut reader, writer) = io::pipe().map_err(wrap)?;
    command.stdout(writer.try_clone().map_err(wrap)?).stderr(writer);
    let mut group = Group(command.spawn().map_err(wrap)?);
    // It holds the pipe's other end too.
    drop(command);
    let mut output = Vec::new();
    let mut is_open = true;
    loop {
        // Asked first: what it wrote before it ended is in the pipe then.
        let status = group.0.try_wait().map_err(wrap)?;
        let wait = if status.is_some() { Duration::ZERO } else { OUTPUT_INTERVAL };
        let until = Instant::now() + wait;
        while is_open && is_readable(&reader, until).map_err(wrap)? && Instant::now() < deadline {
            let mut buffer = [0; 4096];
            let length = reader.read(&mut buffer).map_err(wrap)?;
            is_open = length > 0;
            output.extend_from_slice(&buffer[..length]);
            let surplus = output.len().saturating_sub(output_bytes_max);
            output.drain(..surplus);
        }
        if let Some(status) = status {
            return Ok(Answer { code: status.code(), output });
        }
        if Instant::now() >= deadline {
            return Err(ProcessError::TimedOut(program.to_owned(), timeout));
        }
        if !is_open {
            std::thread::sleep(EXIT_CHECK_INTERVAL);
        }
    }
}

/// Whether there is something to read, or the other end is closed, before the deadline.
fn is_readable(pipe: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    wait_for(&mut [PollFd::new(pipe, PollFlags::IN)], deadline)
}

/// A child and whatever it started: none of it outlives this value.
struct Group(Child);

impl Group {
    /// Reads its output until it closes it or has written more than `max` bytes; `None` at the deadline.
    fn read(&mut self, deadline: Instant, max: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(mut pipe) = self.0.stdout.take() else { return Ok(Some(Vec::new())) };
        let mut output = Vec::new();
        let mut buffer = [0; 4096];
        while output.len() <= max {
            if !is_readable(&pipe, deadline)? {
                return Ok(None);
            }
            match pipe.read(&mut buffer)? {
                0 => break,
                length => output.extend_from_slice(&buffer[..length]),
            }
        }
        Ok(Some(output))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Already reaped: its number may belong to somebody else by now.
        if let Ok(None) = self.0.try_wait() {
            if let Some(group) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration, max: usize) -> Result<Answer, ProcessError> {
        run(&["sh", "-c", script], timeout, max)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_answer_comes_with_its_code() {
        let answer = shell("echo hello; exit 3", LONG, 100).unwrap();
        assert_eq!(answer, Answer { code: Some(3), output: b"hello\n".to_vec() });
    }

    #[test]
    fn what_takes_too_long_or_says_too_much_is_ended() {
        let error = shell("sleep 600 & sleep 600", Duration::from_millis(20), 100).unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut(..)), "{error}");
        let error = shell("exec >&-; sleep 600", Duration::from_millis(20), 100).unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut(..)), "{error}");
        let error = shell("while :; do echo y; done", LONG, 1000).unwrap_err();
        assert!(matches!(error, ProcessError::TooMuch(..)), "{error}");
    }

    fn to_end(script: &str, timeout: Duration, max: usize) -> Result<Answer, ProcessError> {
        run_to_end(&["sh".into(), "-c".into(), script.into()], timeout, max)
    }

    #[test]
    fn the_end_of_what_is_said_counts_and_a_daemon_is_left_alone() {
        let answer = to_end("echo out; echo err >&2; exit 3", LONG, 100).unwrap();
        assert_eq!(answer, Answer { code: Some(3), output: b"out\nerr\n".to_vec() });
        assert_eq!(to_end("seq 1 9999", LONG, 5).unwrap().output, b"9999\n");
        // Its child holds the pipe open for longer than anybody waits.
        let answer = to_end("sleep 600 & echo $!", LONG, 100).unwrap();
        let daemon: i32 = String::from_utf8(answer.output).unwrap().trim().parse().unwrap();
        let daemon = rustix::process::Pid::from_raw(daemon).unwrap();
        rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
        let error = to_end("sleep 600 & sleep 600", Duration::from_millis(20), 100).unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut(..)), "{error}");
        let error = to_end("while :; do echo y; done", Duration::from_millis(50), 100).unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut(..)), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&["no-such-program-here"], LONG, 1).unwrap_err();
        assert_eq!(error.to_string(), "'no-such-program-here' is not installed");
    }
}
