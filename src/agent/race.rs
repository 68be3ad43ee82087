//! One attempt to reach a server that has several addresses: the next one is tried while the one before has
//! not answered yet (RFC 8305), so that an address that leads nowhere costs a moment and not the whole
//! attempt.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::wire::time::Moment;

/// Delay of the next address behind one (RFC 8305 section 5).
const STAGGER_MILLISECONDS: u64 = 250;

/// Time of one address, for the connection and again for the handshake. In that time TCP has asked four times
/// (RFC 6298).
pub const ADDRESS_SECONDS_MAX: u64 = 10;

/// Time of each address that says nothing once another has failed and none is left: long enough for TCP to
/// ask twice (RFC 6298). Its machine may be gone, and the one that takes its place comes up soon: it should
/// be asked again by then.
const SILENT_SECONDS_MAX: u64 = 2;

/// Addresses that are tried, and those that are left.
pub struct Race {
    waiting: VecDeque<SocketAddr>,
    under_way: Vec<Runner>,
    failures: Vec<String>,
    next_at: Moment,
}

struct Runner {
    stream: TcpStream,
    address: SocketAddr,
    begun: Moment,
}

/// State of a race.
pub enum RaceStatus {
    /// Nobody has answered yet.
    Open,
    /// This one answers.
    Won(TcpStream, SocketAddr),
    /// Nobody does, for these reasons.
    Lost(String),
}

impl Race {
    /// One to these addresses: first to where the server was reached last, then to the others in their order,
    /// both families in turn (RFC 8305 section 4).
    #[must_use]
    pub fn new(addresses: &[SocketAddr], reached: Option<SocketAddr>) -> Self {
        let waiting = order(addresses, reached);
        Self { waiting, under_way: Vec::new(), failures: Vec::new(), next_at: Moment(0) }
    }

    /// Looks how those stand that are tried, and tries the next one when it is time. `connect` begins to
    /// connect.
    pub fn step(
        &mut self,
        now: Moment,
        mut connect: impl FnMut(SocketAddr) -> io::Result<TcpStream>,
    ) -> RaceStatus {
        let seconds_max = self.seconds_max();
        let mut runners = std::mem::take(&mut self.under_way).into_iter();
        while let Some(runner) = runners.next() {
            if let Ok(Some(error)) | Err(error) = runner.stream.take_error() {
                self.failed(runner.address, &error);
            } else if runner.stream.peer_addr().is_ok() {
                // The others are not needed, unless this one is of no use after all.
                let others = std::mem::take(&mut self.under_way).into_iter().chain(runners);
                others.for_each(|other| self.waiting.push_front(other.address));
                return RaceStatus::Won(runner.stream, runner.address);
            } else if now >= runner.begun.plus_seconds(seconds_max) {
                self.failed(runner.address, &format!("no answer within {seconds_max} s"));
            } else {
                self.under_way.push(runner);
            }
        }
        while now >= self.next_at || self.under_way.is_empty() {
            let Some(address) = self.waiting.pop_front() else { break };
            match connect(address) {
                Ok(stream) => {
                    self.under_way.push(Runner { stream, address, begun: now });
                    self.next_at = now.plus_milliseconds(STAGGER_MILLISECONDS);
                }
                Err(error) => self.failed(address, &error),
            }
        }
        if self.under_way.is_empty() { RaceStatus::Lost(self.failures.join(", ")) } else { RaceStatus::Open }
    }

    /// This address is of no use, for this reason: the others go on, and the next one at once.
    pub fn failed(&mut self, address: SocketAddr, reason: &impl ToString) {
        self.failures.push(format!("{address}: {}", reason.to_string()));
        self.next_at = Moment(0);
    }

    /// The connections that are begun and have not answered.
    pub fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        self.under_way.iter().map(|runner| &runner.stream)
    }

    /// The addresses that are tried now, and what became of those before.
    #[must_use]
    pub fn told(&self) -> String {
        let under_way = self.under_way.iter().map(|runner| format!("{}: no answer", runner.address));
        self.failures.iter().cloned().chain(under_way).collect::<Vec<_>>().join(", ")
    }

    /// Time of each address that is tried now.
    fn seconds_max(&self) -> u64 {
        let is_last = self.waiting.is_empty() && !self.failures.is_empty();
        if is_last { SILENT_SECONDS_MAX } else { ADDRESS_SECONDS_MAX }
    }

    /// When [`Race::step`] has something to do by itself.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        let begun = self.under_way.iter().map(|runner| runner.begun).min();
        let deadline = begun.map(|begun| begun.plus_seconds(self.seconds_max()));
        let next = (!self.waiting.is_empty()).then_some(self.next_at);
        deadline.into_iter().chain(next).min()
    }
}

/// The order in which addresses are tried.
fn order(addresses: &[SocketAddr], reached: Option<SocketAddr>) -> VecDeque<SocketAddr> {
    let first = reached.filter(|reached| addresses.contains(reached));
    let others: Vec<SocketAddr> =
        addresses.iter().copied().filter(|address| Some(*address) != first).collect();
    let leads_v6 =
        first.or(others.first().copied()).is_some_and(|address| address.is_ipv6() != first.is_some());
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        others.into_iter().partition(|address| address.is_ipv6() == leads_v6);
    let mut order: VecDeque<SocketAddr> = first.into_iter().collect();
    while !one.is_empty() || !other.is_empty() {
        order.extend(one.pop_front());
        order.extend(other.pop_front());
    }
    order
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::reactor::Clock;

    /// An address that answers to nobody: its queue is full (listen(2)).
    struct Dead {
        _listener: Socket,
        _full: Vec<std::net::TcpStream>,
        address: SocketAddr,
    }

    fn dead() -> Dead {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut full = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            full.push(stream);
            assert!(full.len() < 16, "its queue has no end");
        }
        Dead { _listener: listener, _full: full, address }
    }

    fn refused() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn run(addresses: &[SocketAddr]) -> (RaceStatus, u64) {
        let (clock, mut race) = (Clock::new(), Race::new(addresses, None));
        let begun = clock.now().moment;
        loop {
            let now = clock.now().moment;
            match race.step(now, TcpStream::connect) {
                RaceStatus::Open => std::thread::sleep(Duration::from_millis(5)),
                end => return (end, now.microseconds_since(begun) / 1_000),
            }
        }
    }

    #[test]
    fn two_addresses_that_lead_nowhere_cost_a_moment() {
        let (one, two) = (dead(), dead());
        let lives = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = lives.local_addr().unwrap();
        let (end, milliseconds) = run(&[one.address, two.address, address]);
        let RaceStatus::Won(_, won) = end else { panic!("nobody won") };
        assert_eq!(won, address);
        assert!(
            (2 * STAGGER_MILLISECONDS..ADDRESS_SECONDS_MAX * 1_000).contains(&milliseconds),
            "{milliseconds}"
        );
    }

    #[test]
    fn all_reasons_are_named_with_their_addresses() {
        let (one, two) = (dead(), refused());
        let (end, milliseconds) = run(&[one.address, two]);
        let RaceStatus::Lost(why) = end else { panic!("somebody won") };
        assert!(why.contains(&format!("{}: no answer within 2 s", one.address)), "{why}");
        assert!(why.contains(&format!("{two}: Connection refused")), "{why}");
        let milliseconds_max = ADDRESS_SECONDS_MAX * 1_000;
        assert!((SILENT_SECONDS_MAX * 1_000..milliseconds_max).contains(&milliseconds), "{milliseconds}");
        let (RaceStatus::Lost(why), milliseconds) = run(&[one.address]) else { panic!("somebody won") };
        assert!(why.contains("no answer within 10 s") && milliseconds >= milliseconds_max, "{why}");
        let RaceStatus::Lost(why) = Race::new(&[], None).step(Moment(1), TcpStream::connect) else {
            panic!("there was nobody")
        };
        assert_eq!(why, "");
    }

    #[test]
    fn it_begins_where_the_server_was_reached_and_takes_the_families_in_turn() {
        let addresses: Vec<SocketAddr> =
            ["[2001:db8::7]:1", "[2001:db8::8]:1", "192.0.2.7:1", "192.0.2.8:1", "[2001:db8::9]:1"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        let places = |reached: Option<SocketAddr>| -> Vec<usize> {
            let place = |address| addresses.iter().position(|other| *other == address).unwrap();
            order(&addresses, reached).into_iter().map(place).collect()
        };
        assert_eq!(places(None), [0, 2, 1, 3, 4]);
        assert_eq!(places(Some(addresses[3])), [3, 0, 2, 1, 4], "then the other family");
        assert_eq!(places("192.0.2.99:1".parse().ok()), [0, 2, 1, 3, 4], "it has moved");
    }
}
