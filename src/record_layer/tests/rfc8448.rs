//! The records that RFC 8448 section 3 shows once both ends have their application secrets.

use super::derivation::{CLIENT_SECRET, SERVER_SECRET, hex};
use super::reference::{Brought, open_one, sealed};
use crate::record_layer::{OpenError, SlimLink, Start, Suite};

const TICKET: &str = "17030300de 3a6b8f90414a97d6959c3487680de513 4a2b240e6cffac116e95d41d6af8f6b5
    80dcf3d11d63c758db289a015940252f 55713e061dc13e078891a38efbcf5753 ad8ef170ad3c7353d16d9da773b9ca7f
    2b9fa1b6c0d4a3d03f75e09c30ba1e62 972ac46f75f7b981be63439b2999ce13 064615139891d5e4c5b406f16e3fc181
    a77ca475840025db2f0a77f81b5ab05b 94c01346755f69232c86519d86cbeeac 87aac347d143f9605d64f650db4d023e
    70e952ca49fe5137121c74bc2697687e 248746d6df353005f3bce18696129c81 53556b3b6c6779b37bf15985684f";
const CLIENT_DATA: &str = "1703030043 a23f7054b62c94d0affafe8228ba55cb efacea42f914aa66bcab3f2b9819a8a5
    b46b395bd54a9a20441e2b62974e1f5a 6292a2977014bd1e3deae63aeebb2169 4915e4";
const SERVER_DATA: &str = "1703030043 2e937e11ef4ac740e538ad36005fc4a4 6932fc3225d05f82aa1b36e30efaf97d
    90e6dffc602dcb501a59a8fcc49c4bf2 e5f0a21c0047c2abf332540dd032e167 c2955d";
const CLIENT_CLOSE: &str = "1703030013 c9872760655666b74d7ff1153efd6db6 d0b0e3";
const SERVER_CLOSE: &str = "1703030013 b58fd67166ebf599d24720cfbe7efa7a 8864a9";

/// Fifty bytes, counted up, from either side.
fn data() -> Vec<u8> {
    (0..50).collect()
}

/// The two ends. The server's first record is its ticket.
fn ends(server_sequence: u64) -> (SlimLink, SlimLink) {
    let (up, down) = (hex(CLIENT_SECRET), hex(SERVER_SECRET));
    let (up, down) = (Start { secret: &up, sequence: 0 }, Start { secret: &down, sequence: server_sequence });
    let client = SlimLink::new(Suite::Aes128Gcm, down, up).unwrap();
    let server = SlimLink::new(Suite::Aes128Gcm, up, down).unwrap();
    (client, server)
}

#[test]
fn what_is_sealed_is_what_the_rfc_shows() {
    let (mut client, mut server) = ends(1);
    for (link, of_data, of_close) in
        [(&mut client, CLIENT_DATA, CLIENT_CLOSE), (&mut server, SERVER_DATA, SERVER_CLOSE)]
    {
        assert_eq!(sealed(link, &data()), hex(of_data));
        let mut out = Vec::new();
        link.sealing_burst().close_notify(&mut out).unwrap();
        assert_eq!(out, hex(of_close));
    }
}

#[test]
fn what_the_rfc_shows_is_opened() {
    let (mut client, mut server) = ends(1);
    for (link, of_data, of_close) in
        [(&mut server, CLIENT_DATA, CLIENT_CLOSE), (&mut client, SERVER_DATA, SERVER_CLOSE)]
    {
        assert_eq!(open_one(link, &hex(of_data)), Ok(Brought::Data(data())));
        assert_eq!(open_one(link, &hex(of_close)), Ok(Brought::CloseNotify));
    }
}

#[test]
fn a_ticket_is_refused() {
    let (mut client, _) = ends(0);
    assert_eq!(open_one(&mut client, &hex(TICKET)), Err(OpenError::UnexpectedHandshake));
}
