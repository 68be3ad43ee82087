#![no_main]
//! Handshakes: whatever a peer sends before anybody knows it is refused or waited for, and no more of it is
//! kept than is allowed.
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use muster::reactor::channel::{
    CertificateStatus, Channel, ClientTls, ExpectedServer, Membership, ServerHandshake, ServerTls,
};
use muster::wire::id::CertificateHash;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

struct Nobody;

impl Membership for Nobody {
    fn certificate_status(&self, _: &CertificateHash) -> CertificateStatus {
        CertificateStatus::Unknown
    }
}

struct Fixture {
    server: ServerTls,
    client: ClientTls,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let certificate = CertificateParams::new(vec!["muster".into()]).expect("a name").self_signed(&key);
    let certificate = certificate.expect("a certificate").der().to_vec();
    let server = ServerTls::new(&certificate, &key.serialize_der(), Arc::new(Nobody)).expect("usable");
    let client = ClientTls::new(ExpectedServer::of_pins(vec![certificate]), None).expect("usable");
    Fixture { server, client }
});

// The first byte says whether a real hello goes before the rest, which is cut into as many pieces as the
// second says.
fuzz_target!(|bytes: &[u8]| {
    let [is_behind_a_hello, pieces, rest @ ..] = bytes else { return };
    let mut server = ServerHandshake::new(&FIXTURE.server).expect("a handshake");
    let mut out = Vec::new();
    if is_behind_a_hello % 2 == 1 {
        let mut hello = Vec::new();
        let mut client = Channel::client(&FIXTURE.client).expect("a client");
        client.flush_to(&mut hello).expect("a vector takes everything");
        server.read(&mut hello, &mut out).expect("a hello");
    }
    for piece in rest.chunks(rest.len() / (usize::from(*pieces) + 1) + 1) {
        match server.read(&mut piece.to_vec(), &mut out) {
            Ok(taken) => assert!(taken == piece.len() || server.is_finished()),
            Err(_) => return,
        }
    }
});
