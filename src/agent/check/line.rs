//! Results of a check, one line for each thing that was looked at.

use std::fmt;

use serde::Serialize;

/// Verdict on one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not as it should be.
    Failed,
    /// Not looked at, because of something before it.
    Skipped,
}

/// Things that are looked at, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Whether the device has enrolled.
    Identity,
    /// Its certificate, and until when that is good.
    Certificate,
    /// The server's name has addresses.
    Name,
    /// One of them accepts connections.
    Tcp,
    /// It speaks TLS 1.3 and the agents' protocol.
    Tls,
    /// Its certificate equals a stored copy.
    Pin,
    /// It knows the device.
    Device,
    /// Both clocks agree.
    Clock,
    /// Datagrams reach the server.
    UdpOut,
    /// Datagrams reach the device.
    UdpIn,
    /// The spool can be read, and nothing in it is damaged.
    Spool,
}

impl Subject {
    /// As it is written for people: as in JSON, with blanks.
    #[must_use]
    pub fn name(self) -> String {
        let name = serde_json::to_string(&self).unwrap_or_default();
        name.trim_matches('"').replace('_', " ")
    }
}

/// One line of the report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// The thing.
    pub subject: Subject,
    /// Its verdict.
    pub verdict: Verdict,
    /// The observation; when it is not as it should be, why and what to do.
    pub detail: String,
}

impl Line {
    /// As it should be.
    #[must_use]
    pub fn ok(subject: Subject, detail: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Ok, detail: detail.into() }
    }

    /// Not as it should be.
    #[must_use]
    pub fn failed(subject: Subject, detail: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Failed, detail: detail.into() }
    }

    /// Not looked at, for this reason.
    #[must_use]
    pub fn put_off(subject: Subject, reason: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Skipped, detail: reason.into() }
    }

    /// Not looked at, because of `cause`.
    #[must_use]
    pub fn skipped(subject: Subject, cause: Subject) -> Self {
        let detail = format!("because of '{}' above", cause.name());
        Self { subject, verdict: Verdict::Skipped, detail }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAIL",
            Verdict::Skipped => "skip",
        };
        write!(f, "{verdict:<4} {:<12}{}", self.subject.name(), self.detail)
    }
}

/// All lines so far; the callback gets each as it comes.
pub struct Report<'a> {
    lines: Vec<Line>,
    show: &'a mut dyn FnMut(&Line),
}

impl<'a> Report<'a> {
    /// An empty report, each line of which is shown as it comes.
    pub fn new(show: &'a mut dyn FnMut(&Line)) -> Self {
        Self { lines: Vec::new(), show }
    }

    /// Adds a line.
    pub fn add(&mut self, line: Line) {
        (self.show)(&line);
        self.lines.push(line);
    }

    /// Adds that these were not looked at, because of `cause`.
    pub fn skip(&mut self, subjects: &[Subject], cause: Subject) {
        for subject in subjects {
            self.add(Line::skipped(*subject, cause));
        }
    }

    /// Adds what is not as it should be, and that these were not looked at because of it. Returns its
    /// subject.
    pub fn give_up(&mut self, line: Line, subjects: &[Subject]) -> Subject {
        let cause = line.subject;
        self.add(line);
        self.skip(subjects, cause);
        cause
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Number of lines that are not ok.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.lines.iter().filter(|line| line.verdict == Verdict::Failed).count()
    }

    /// Whether everything was looked at and is as it should be.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.lines.iter().all(|line| line.verdict == Verdict::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_it_stands_what_it_is_and_why() {
        let cases = [
            (Line::ok(Subject::Tcp, "127.0.0.1:13000"), "ok   tcp         127.0.0.1:13000"),
            (Line::failed(Subject::UdpOut, "lost: do this"), "FAIL udp out     lost: do this"),
            (Line::skipped(Subject::Pin, Subject::Tls), "skip pin         because of 'tls' above"),
        ];
        for (line, expected) in cases {
            assert_eq!(line.to_string(), expected);
        }
        let json = serde_json::to_value(Line::failed(Subject::UdpIn, "x")).unwrap();
        assert_eq!(json, serde_json::json!({"subject": "udp_in", "verdict": "failed", "detail": "x"}));
    }

    #[test]
    fn only_a_report_without_gaps_is_ok() {
        let mut shown = 0;
        let mut show = |_: &Line| shown += 1;
        let mut report = Report::new(&mut show);
        report.add(Line::ok(Subject::Tcp, ""));
        assert!(report.is_ok());
        report.skip(&[Subject::UdpOut, Subject::UdpIn], Subject::Tcp);
        assert!(!report.is_ok());
        assert_eq!(report.problems(), 0);
        report.add(Line::failed(Subject::Spool, ""));
        assert_eq!((report.problems(), report.lines().len()), (1, 4));
        drop(report);
        assert_eq!(shown, 4);
    }
}
