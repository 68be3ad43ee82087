//! The same loads against muster and against other servers: `tools/side-by-side` starts the servers and calls
//! this driver for each.
//!
//! One thread drives all links of a load (a storm has a second one), and counts its own processor time, so
//! that a figure that is the client's rather than the server's is marked. The result of a load is printed as
//! one JSON document.
#![forbid(unsafe_code)]

mod certificates;
mod closed;
mod failure;
mod handshakes;
mod held;
mod link;
mod loads;
mod low;
mod measure;
mod mqtt;
mod muster;
mod nats;
mod open;
mod process;
mod protocol;
mod resp;
mod storm;
mod swarm;
mod talk;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use ::muster::client::Address;
use clap::{Args, Parser, Subcommand, ValueEnum};

use certificates::{ClientFiles, KeyExchange, Keys};
use failure::Failure;
use loads::{Load, Sizes};
use process::Process;
use protocol::Peer;

/// Drives the same loads against muster and other servers; tools/side-by-side calls it.
#[derive(Parser, Debug)]
#[command(name = "muster-compare", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make the certificates that the servers' configurations name
    Certificates {
        /// Destination
        #[arg(long)]
        directory: PathBuf,
        /// Of which kind
        #[arg(long, default_value = "ed25519")]
        keys: Keys,
    },
    /// Run loads against one server that is up, and print what was measured as JSON
    Run(Run),
}

#[derive(Args, Debug)]
struct Run {
    /// Which protocol it speaks
    #[arg(long)]
    protocol: ProtocolName,
    /// Address at which it listens
    #[arg(long)]
    address: SocketAddr,
    /// Its process, whose memory and processor time are read
    #[arg(long)]
    pid: u32,
    /// Directory of the certificates, on the disk that the server writes to
    #[arg(long)]
    directory: PathBuf,
    /// muster's administrators' socket, unix:PATH
    #[arg(long)]
    admin: Option<Address>,
    /// Smaller counts
    #[arg(long)]
    quick: bool,
    /// Which key exchange clients offer
    #[arg(long, default_value = "x25519")]
    key_exchange: KeyExchange,
    /// Which loads
    #[arg(long, value_delimiter = ',', default_value = "held,handshakes,messages,storm,low")]
    loads: Vec<Load>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum ProtocolName {
    Muster,
    Mqtt,
    Nats,
    Resp,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Certificates { directory, keys } => certificates::write(&directory, keys),
        Command::Run(run) => drive(&run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("muster-compare: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn drive(run: &Run) -> Result<(), Failure> {
    let files = || ClientFiles::read(&run.directory, run.key_exchange);
    let peer: Box<dyn Peer> = match run.protocol {
        ProtocolName::Muster => {
            let admin = run.admin.clone().ok_or_else(|| Failure("muster needs --admin unix:PATH".into()))?;
            Box::new(muster::MusterPeer::new(run.address, admin, run.key_exchange)?)
        }
        ProtocolName::Mqtt => Box::new(mqtt::MqttPeer::new(run.address, files()?)),
        ProtocolName::Nats => Box::new(nats::NatsPeer { address: run.address, files: files()? }),
        ProtocolName::Resp => Box::new(resp::RespPeer::new(run.address, files()?)),
    };
    let sizes = if run.quick { Sizes::quick() } else { Sizes::full() };
    let report = loads::run(peer.as_ref(), &Process::of(run.pid), &run.loads, &sizes, &run.directory)?;
    let text = serde_json::to_string(&report).map_err(Failure::when("write the report"))?;
    println!("{text}");
    Ok(())
}
