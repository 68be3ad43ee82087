//! Administrators who come over the network: TLS 1.3 on a port of its own, which opens with the first API
//! token or user.
//!
//! Their places are others than those of the socket: whatever comes here, root gets in there. A peer that has
//! not signed in is told nothing but that; its connection costs some 20 KiB and ends by itself.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::{ACCEPT_PAUSE_MILLISECONDS, Caller, HEAD_SECONDS_MAX, STOP_SECONDS_MAX, stopped};
use super::conversation::streams::Places;
use super::conversation::{converse, converse_in_streams};
use super::{AdminContext, Shared};
use crate::machine::bucket::Bucket;
use crate::reactor::channel::{AdminTls, HTTP_2};
use crate::wire::time::Moment;

/// Connections at once, beside those of the socket. Each costs about 20 KiB.
pub const NETWORK_CONNECTIONS_MAX: usize = 64;

/// Those of one address: a browser opens six, and a few programs of one person are served.
pub const CONNECTIONS_OF_ADDRESS_MAX: usize = 16;

/// Longest time of a handshake.
const HANDSHAKE_SECONDS_MAX: u64 = 5;

/// Time after which a port that could not be opened is tried again, and it is looked whether anybody could
/// sign in.
const RETRY_SECONDS: u64 = 30;

/// Cost of a token or password that is none: from one address, or for one account, come ten a minute over
/// time.
const GUESS_MICROSECONDS: u64 = 6_000_000;

/// Those that are none, at once from one address or for one account.
const GUESSES_AT_ONCE: u64 = 20;

/// Cost of a request for the installer: thirty devices of a site get it in a minute, which ask twice each.
const INSTALL_MICROSECONDS: u64 = 1_000_000;

/// Requests for the installer, at once from one address.
const INSTALLS_AT_ONCE: u64 = 60;

/// Most addresses, or accounts, whose shares are counted; the rest is refused until some are forgotten.
const RATIONED_MAX: usize = 4_096;

/// The port for administrators.
#[derive(Clone, Debug)]
pub struct Network {
    /// Address to listen at.
    pub address: SocketAddr,
    /// The server's end of TLS.
    pub tls: AdminTls,
}

/// Serves until `stopping`; nothing listens before there is an API token or a user.
pub(super) async fn serve(
    network: Network,
    shared: &Arc<Shared>,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    let Some(listener) = opened(&network, shared, &stopping).await else { return };
    let acceptor = TlsAcceptor::from(network.tls.config());
    let places = Arc::new(Semaphore::new(NETWORK_CONNECTIONS_MAX));
    let of_addresses = OfAddresses::default();
    let requests = Places::of_all();
    let mut connections = JoinSet::new();
    loop {
        // Without a place nothing is accepted: the next one waits in the backlog, for seconds.
        let permit = tokio::select! {
            () = stopped(stopping.clone()) => break,
            permit = Arc::clone(&places).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            () = stopped(stopping.clone()) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // One that has too many is closed: there is nobody yet to whom to say why.
                if let Some(place) = of_addresses.take(peer.ip().to_canonical()) {
                    let talk = talk(
                        stream,
                        peer,
                        acceptor.clone(),
                        router.clone(),
                        [place.requests.clone(), requests.clone()],
                        stopping.clone(),
                    );
                    connections.spawn(async move {
                        talk.await;
                        drop((permit, place));
                    });
                }
            }
            Err(error) => {
                log::warn!("administration: can't accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MILLISECONDS)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // Those that are cut off are told by their connections' end.
    let _ = tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), all).await;
}

/// The open port, once somebody could sign in; nothing: the server stops.
async fn opened(
    Network { address, tls }: &Network,
    shared: &Shared,
    stopping: &watch::Receiver<bool>,
) -> Option<TcpListener> {
    let mut is_told = false;
    loop {
        let valid = shared.run(|AdminContext { store, clock, .. }| {
            Ok(store.users().is_any()? || store.api_tokens().is_any_valid(clock.ages().wall)?)
        });
        if valid.await.unwrap_or(false) {
            match TcpListener::bind(*address).await {
                Ok(listener) => {
                    let at = listener.local_addr().unwrap_or(*address);
                    log::info!(
                        "administrators connect to https://{at}; a browser that asks whether to go on shows SHA-256 {}, \
                         unless [admin] or [tls] names files",
                        tls.to_browsers()
                    );
                    *shared.network.lock() = Some(at);
                    return Some(listener);
                }
                Err(error) if !is_told => {
                    log::error!(
                        "can't listen on {address} for administrators ([admin] listen): {error}; trying on"
                    );
                    is_told = true;
                }
                Err(_) => {}
            }
        }
        tokio::select! {
            () = stopped(stopping.clone()) => return None,
            () = shared.admitted.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(RETRY_SECONDS)) => {}
        }
    }
}

async fn talk(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    places: [Places; 2],
    stopping: watch::Receiver<bool>,
) {
    // Answers are written whole: a delay would wait for nothing.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(Duration::from_secs(HANDSHAKE_SECONDS_MAX), acceptor.accept(stream));
    match handshake.await {
        Ok(Ok(stream)) => {
            let caller = Caller::from_network(peer.ip().to_canonical());
            if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) {
                return converse_in_streams(stream, caller, router, places, HEAD_SECONDS_MAX, stopping).await;
            }
            converse(stream, caller, router, HEAD_SECONDS_MAX, stopping).await;
        }
        Ok(Err(error)) => log::debug!("administration: a handshake with {peer} failed: {error}"),
        Err(_) => log::debug!("administration: a handshake with {peer} took too long"),
    }
}

/// Connections by address.
#[derive(Clone, Default)]
struct OfAddresses(Arc<Mutex<HashMap<IpAddr, Connections>>>);

/// Those of one address.
struct Connections {
    count: usize,
    requests: Places,
}

impl Default for Connections {
    fn default() -> Self {
        Self { count: 0, requests: Places::of_address() }
    }
}

/// One of an address's, until it is dropped.
struct OfAddress {
    all: OfAddresses,
    address: IpAddr,
    /// All of the address have these.
    requests: Places,
}

impl OfAddresses {
    fn take(&self, address: IpAddr) -> Option<OfAddress> {
        let mut all = self.0.lock();
        let connections = all.entry(address).or_default();
        if connections.count >= CONNECTIONS_OF_ADDRESS_MAX {
            return None;
        }
        connections.count += 1;
        Some(OfAddress { all: self.clone(), address, requests: connections.requests.clone() })
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(connections) = all.get_mut(&self.address) {
            connections.count -= 1;
            if connections.count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// A ration for each address or account of what those who have not signed in may ask.
pub(super) struct Ration<K> {
    taken: HashMap<K, Bucket>,
    microseconds: u64,
    at_once: u64,
}

impl<K: Eq + Hash> Ration<K> {
    /// Of tokens and passwords that are none: they are rationed before anything is looked up.
    pub(super) fn of_guesses() -> Self {
        Self { taken: HashMap::new(), microseconds: GUESS_MICROSECONDS, at_once: GUESSES_AT_ONCE }
    }

    /// Of requests for the installer.
    pub(super) fn of_installs() -> Self {
        Self { taken: HashMap::new(), microseconds: INSTALL_MICROSECONDS, at_once: INSTALLS_AT_ONCE }
    }

    /// Whether another one from there is looked at.
    pub(super) fn may_take(&mut self, from: &K, now: Moment) -> bool {
        if self.taken.len() >= RATIONED_MAX {
            self.taken.retain(|_, bucket| bucket.opens_at(0) > now);
        }
        match self.taken.get(from) {
            Some(bucket) => bucket.opens_at(self.microseconds * (self.at_once - 1)) <= now,
            None => self.taken.len() < RATIONED_MAX,
        }
    }

    /// There was one.
    pub(super) fn take(&mut self, from: K, now: Moment) {
        self.taken.entry(from).or_default().take(now, self.microseconds);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn wrong_tokens_are_rationed_by_address_and_their_memory_is_bounded() {
        let (mut guesses, begun) = (Ration::of_guesses(), 1_000_000_000);
        let tried = |guesses: &mut Ration<IpAddr>, from: u32, now: u64| {
            (0..10_000)
                .filter(|_| {
                    let may = guesses.may_take(&address(from), Moment(now));
                    if may {
                        guesses.take(address(from), Moment(now));
                    }
                    may
                })
                .count()
        };
        assert_eq!(tried(&mut guesses, 1, begun), 20);
        assert_eq!(tried(&mut guesses, 1, begun + 60_000_000), 10, "ten a minute later");
        assert_eq!(tried(&mut guesses, 2, begun), 20, "another address has its own");
        for from in 0..10_000 {
            if guesses.may_take(&address(from), Moment(begun)) {
                guesses.take(address(from), Moment(begun));
            }
        }
        assert_eq!(guesses.taken.len(), RATIONED_MAX);
        assert!(!guesses.may_take(&address(20_000), Moment(begun)));
        assert!(guesses.may_take(&address(20_000), Moment(begun + 3_600_000_000)), "they are forgotten");
    }

    #[test]
    fn the_connections_of_an_address_are_bounded_and_come_back() {
        let all = OfAddresses::default();
        let mut taken: Vec<_> = (0..40).filter_map(|_| all.take(address(1))).collect();
        assert_eq!(taken.len(), CONNECTIONS_OF_ADDRESS_MAX);
        assert!(all.take(address(2)).is_some());
        drop(taken.pop());
        assert!(all.take(address(1)).is_some());
        drop(taken);
        assert!(all.0.lock().is_empty());
    }
}
