//! A browser without script: it gets pages and sends forms.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::kit::admin::AdminServer;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value; empty: it has none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_default()
    }

    /// Whether this stands on the page, which is whole.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        assert!(self.body.contains(text), "without {text}: {}", self.body);
        assert_eq!(self.body.matches("<h1>").count(), 1, "{}", self.body);
        assert!(self.body.trim_end().ends_with("</html>"), "{}", self.body);
    }
}

/// Sends a request with more headers, and reads the answer to its end.
pub(crate) fn ask(server: &AdminServer, head: &str, more: &str, body: &str) -> Answer {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    let length = body.len();
    let text = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: unchunked(body) }
}

/// A body without the lengths of its chunks (RFC 9112 section 7.1), where it has any.
fn unchunked(body: &str) -> String {
    let (mut rest, mut whole) = (body, String::new());
    while let Some((length, behind)) = rest.split_once("\r\n") {
        let Ok(length) = usize::from_str_radix(length, 16) else { return body.to_owned() };
        let (Some(chunk), Some(next)) = (behind.get(..length), behind.get(length + 2..)) else { break };
        whole.push_str(chunk);
        rest = next;
    }
    if whole.is_empty() { body.to_owned() } else { whole }
}

pub(crate) fn get(server: &AdminServer, url: &str) -> Answer {
    ask(server, &format!("GET {url}"), "accept: text/html\r\n", "")
}

/// Sends a form as a browser does, from a page of the console.
pub(crate) fn post(server: &AdminServer, url: &str, fields: &[(&str, &str)]) -> Answer {
    let more = "content-type: application/x-www-form-urlencoded\r\norigin: https://x\r\nsec-fetch-site: same-origin\r\n";
    ask(server, &format!("POST {url}"), more, &encoded(fields))
}

pub(crate) fn encoded(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", encode(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}
