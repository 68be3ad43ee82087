//! Running another program with a bound on its time and on what it may say.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Answer of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, up to the limit.
    pub output: Vec<u8>,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It is not there.
    #[error("'{0}' is not installed")]
    NotThere(String),
    /// It could not be run.
    #[error("'{program}' can't be run: {source}")]
    Io {
        /// Which program.
        program: String,
        /// The system's error.
        source: io::Error,
    },
    /// It took too long and was ended.
    #[error("'{program}' took longer than {} s and was ended", timeout.as_secs_f64())]
    TimedOut {
        /// Which program.
        program: String,
        /// Its time.
        timeout: Duration,
    },
    /// It said more than it may and was ended.
    #[error("'{program}' wrote more than {output_bytes_max} bytes and was ended")]
    TooMuch {
        /// Which program.
        program: String,
        /// Most bytes that it might have written.
        output_bytes_max: usize,
    },
}

/// Interval at which a program that has closed its output is asked whether it has ended.
const EXIT_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Time that a program's output is waited for before it is asked whether it has ended.
const OUTPUT_INTERVAL: Duration = Duration::from_millis(20);

/// Runs a program to its end, with nothing to read and a process group of its own. Blocks for `timeout` at
/// most.
///
/// # Errors
/// When it is not there, takes longer than `timeout` or writes more than `output_bytes_max`. It and what it
/// started have been ended then.
pub fn run(
    program: &str,
    arguments: &[&str],
    timeout: Duration,
    output_bytes_max: usize,
) -> Result<Answer, ProcessError> {
    let wrap = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ProcessError::NotThere(program.to_owned()),
        _ => ProcessError::Io { program: program.to_owned(), source },
    };
    let deadline = Instant::now() + timeout;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env("LC_ALL", "C")
        .process_group(0)
        .spawn()
        .map_err(wrap)?;
    let mut group = Group(child);
    let output = match group.read(deadline, output_bytes_max).map_err(wrap)? {
        Some(output) if output.len() > output_bytes_max => {
            return Err(ProcessError::TooMuch { program: program.to_owned(), output_bytes_max });
        }
        Some(output) => output,
        None => return Err(ProcessError::TimedOut { program: program.to_owned(), timeout }),
    };
    loop {
        if let Some(status) = group.0.try_wait().map_err(wrap)? {
            return Ok(Answer { code: status.code(), output });
        }
        if Instant::now() >= deadline {
            return Err(ProcessError::TimedOut { program: program.to_owned(), timeout });
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
    arguments: &[String],
    timeout: Duration,
    output_bytes_max: usize,
) -> Result<Answer, ProcessError> {
    let program = arguments.first().map(String::as_str).unwrap_or_default();
    let wrap = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ProcessError::NotThere(program.to_owned()),
        _ => ProcessError::Io { program: program.to_owned(), source },
    };
    let deadline = Instant::now() + timeout;
    let (mut reader, writer) = io::pipe().map_err(wrap)?;
    let mut command = Command::new(program);
    command
        .args(arguments.get(1..).unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(wrap)?)
        .stderr(writer)
        .env("LC_ALL", "C")
        .process_group(0);
    let mut group = Group(command.spawn().map_err(wrap)?);
    // It holds the pipe's other end too.
    drop(command);
    let mut output = Vec::new();
    let mut is_open = true;
    loop {
        // Asked first: what it wrote before it ended is in the pipe then.
        let status = group.0.try_wait().map_err(wrap)?;
        let wait = if status.is_some() { Duration::ZERO } else { OUTPUT_INTERVAL };
        while is_open && is_readable(&reader, wait).map_err(wrap)? && Instant::now() < deadline {
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
            return Err(ProcessError::TimedOut { program: program.to_owned(), timeout });
        }
        if !is_open {
            std::thread::sleep(EXIT_CHECK_INTERVAL);
        }
    }
}

/// Whether there is something to read, or the other end is closed, within `wait`.
fn is_readable(pipe: &io::PipeReader, wait: Duration) -> io::Result<bool> {
    let wait = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
    match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&wait)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
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
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
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
        run("sh", &["-c", script], timeout, max)
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
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
        let error = shell("exec >&-; sleep 600", Duration::from_millis(20), 100).unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
        let error = shell("while :; do echo y; done", LONG, 1000).unwrap_err();
        assert!(matches!(error, ProcessError::TooMuch { .. }), "{error}");
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
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
        let error = to_end("while :; do echo y; done", Duration::from_millis(50), 100).unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run("no-such-program-here", &[], LONG, 1).unwrap_err();
        assert_eq!(error.to_string(), "'no-such-program-here' is not installed");
    }
}
