//! As much of the D-Bus wire format as hearing a few signals takes (D-Bus Specification 0.41, "Message
//! Protocol").

use std::io;

/// The bus does not start a service for the sake of this call (`NO_AUTO_START`).
const FLAG_NO_AUTO_START: u8 = 2;

/// Kinds of messages.
const METHOD_CALL: u8 = 1;
const SIGNAL: u8 = 4;

/// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Bytes of a header before its fields.
const FIXED_BYTES: usize = 16;

/// A call with one string, or with nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) text: Option<&'a str>,
}

impl Call<'_> {
    /// `serial`: not 0, and of this call alone.
    pub(super) fn write_to(self, serial: u32, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        self.text.iter().for_each(|text| string(&mut body, text));
        let mut fields = Vec::new();
        let texts = [
            (PATH, b'o', self.path),
            (DESTINATION, b's', self.destination),
            (INTERFACE, b's', self.interface),
            (MEMBER, b's', self.member),
        ];
        for (code, kind, text) in texts {
            align(&mut fields, 8);
            fields.extend_from_slice(&[code, 1, kind, 0]);
            string(&mut fields, text);
        }
        if self.text.is_some() {
            align(&mut fields, 8);
            fields.extend_from_slice(&[SIGNATURE, 1, b'g', 0, 1, b's', 0]);
        }
        let mut message = vec![b'l', METHOD_CALL, FLAG_NO_AUTO_START, 1];
        for number in [length_of(&body), serial, length_of(&fields)] {
            message.extend_from_slice(&number.to_le_bytes());
        }
        message.append(&mut fields);
        align(&mut message, 8);
        message.append(&mut body);
        out.append(&mut message);
    }
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// At a multiple of four, as a string begins.
fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&length_of(text.as_bytes()).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
}

/// The parts of a message that are read: empty unless it is a signal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) member: String,
    /// The strings and object paths of its body, as far as only numbers of four bytes stand between them.
    pub(super) texts: Vec<String>,
}

/// The message that `bytes` begin with, and its length; `None`: more bytes are to come.
///
/// # Errors
/// When this is no message, or one of more than `bytes_max`.
pub(super) fn next_message(bytes: &[u8], bytes_max: usize) -> io::Result<Option<(usize, Message)>> {
    let Some(order) = bytes.first() else { return Ok(None) };
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it does not speak D-Bus");
    let is_big = match order {
        b'l' => false,
        b'B' => true,
        _ => return Err(wrong()),
    };
    if bytes.len() < FIXED_BYTES {
        return Ok(None);
    }
    let at = |at| Reader { bytes, at, is_big }.number().ok_or_else(wrong);
    let (body_bytes, fields_bytes) = (at(4)?, at(12)?);
    let body_at = FIXED_BYTES.checked_add(fields_bytes).ok_or_else(wrong)?.next_multiple_of(8);
    let length = body_at.checked_add(body_bytes).filter(|length| *length <= bytes_max).ok_or_else(wrong)?;
    let Some(whole) = bytes.get(..length) else { return Ok(None) };
    if whole[1] != SIGNAL {
        return Ok(Some((length, Message::default())));
    }
    let fields = &whole[..FIXED_BYTES + fields_bytes];
    let (member, signature) =
        header(&mut Reader { bytes: fields, at: FIXED_BYTES, is_big }).ok_or_else(wrong)?;
    let mut body = Reader { bytes: whole, at: body_at, is_big };
    let mut texts = Vec::new();
    for kind in signature.bytes() {
        match kind {
            b'u' | b'i' => drop(body.number().ok_or_else(wrong)?),
            b's' | b'o' => texts.push(body.string().ok_or_else(wrong)?),
            _ => break,
        }
    }
    Ok(Some((length, Message { member, texts })))
}

/// Member and signature.
fn header(reader: &mut Reader<'_>) -> Option<(String, String)> {
    let (mut member, mut signature) = (String::new(), String::new());
    while reader.at < reader.bytes.len() {
        reader.at = reader.at.next_multiple_of(8);
        let code = reader.byte()?;
        match reader.signature()?.as_str() {
            "s" | "o" => {
                let text = reader.string()?;
                if code == MEMBER {
                    member = text;
                }
            }
            "g" => {
                let text = reader.signature()?;
                if code == SIGNATURE {
                    signature = text;
                }
            }
            "u" => drop(reader.number()?),
            _ => return None,
        }
    }
    Some((member, signature))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn number(&mut self) -> Option<usize> {
        self.at = self.at.next_multiple_of(4);
        let is_big = self.is_big;
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        let number = if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        usize::try_from(number).ok()
    }

    fn string(&mut self) -> Option<String> {
        let length = self.number()?;
        self.text(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.text(length)
    }

    /// This many bytes, and the zero behind them.
    fn text(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first message of the specification's own kind of example: as dbus-monitor(1) shows a `JobNew`,
    /// big-endian.
    fn signal() -> Vec<u8> {
        let mut bytes = vec![b'B', SIGNAL, 1, 1];
        let (path, member) = ("/org/freedesktop/systemd1", "JobNew");
        let mut fields = Vec::new();
        let mut put = |code, kind: u8, text: &str| {
            align(&mut fields, 8);
            fields.extend_from_slice(&[code, 1, kind, 0]);
            if kind == b'g' {
                fields.push(u8::try_from(text.len()).unwrap());
            } else {
                fields.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            }
            fields.extend_from_slice(text.as_bytes());
            fields.push(0);
        };
        put(PATH, b'o', path);
        put(SIGNATURE, b'g', "uos");
        put(MEMBER, b's', member);
        let mut body = 7_u32.to_be_bytes().to_vec();
        for text in ["/org/freedesktop/systemd1/job/7", "reboot.target"] {
            align(&mut body, 4);
            body.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        for number in [body.len(), 5, fields.len()] {
            bytes.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        }
        bytes.extend(fields);
        align(&mut bytes, 8);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_signal_is_read_and_half_a_signal_is_not() {
        let bytes = signal();
        let read = next_message(&bytes, 4096).unwrap().unwrap();
        let texts = vec!["/org/freedesktop/systemd1/job/7".to_owned(), "reboot.target".to_owned()];
        assert_eq!(read, (bytes.len(), Message { member: "JobNew".into(), texts }));
        for length in 0..bytes.len() {
            assert_eq!(next_message(&bytes[..length], 4096).unwrap(), None, "{length}");
        }
    }

    #[test]
    fn damage_is_an_error_or_another_message_and_never_a_panic() {
        let whole = signal();
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let _ = next_message(&bytes, 4096);
            }
        }
        assert!(next_message(b"HTTP/1.1 400", 4096).is_err());
        let mut long = whole;
        long[4..8].copy_from_slice(&[0xff; 4]);
        assert!(next_message(&long, 4096).is_err());
    }
}
