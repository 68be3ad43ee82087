//! Kind of a message: its first number. Kinds below 33 go to the server, the others to an agent.

/// [`ToServer::Enrol`](super::ToServer::Enrol).
pub const ENROL: u32 = 1;
/// [`ToServer::Sync`](super::ToServer::Sync).
pub const SYNC: u32 = 2;
/// [`ToServer::Part`](super::ToServer::Part).
pub const PART: u32 = 3;
/// [`ToServer::Events`](super::ToServer::Events).
pub const EVENTS: u32 = 4;
/// [`ToServer::Ping`](super::ToServer::Ping).
pub const PING: u32 = 5;
/// [`ToServer::Goodbye`](super::ToServer::Goodbye).
pub const GOODBYE: u32 = 6;
/// [`ToServer::Probe`](super::ToServer::Probe).
pub const PROBE: u32 = 7;
/// [`ToServer::Runs`](super::ToServer::Runs).
pub const RUNS: u32 = 8;
/// [`ToServer::Statistics`](super::ToServer::Statistics).
pub const STATISTICS: u32 = 9;
/// [`ToServer::Renew`](super::ToServer::Renew).
pub const RENEW: u32 = 10;
/// [`ToServer::Fetch`](super::ToServer::Fetch).
pub const FETCH: u32 = 11;
/// [`ToAgent::Enrolled`](super::ToAgent::Enrolled).
pub const ENROLLED: u32 = 33;
/// [`ToAgent::InSync`](super::ToAgent::InSync).
pub const IN_SYNC: u32 = 34;
/// [`ToAgent::Want`](super::ToAgent::Want).
pub const WANT: u32 = 35;
/// [`ToAgent::Ack`](super::ToAgent::Ack).
pub const ACK: u32 = 36;
/// [`ToAgent::Later`](super::ToAgent::Later).
pub const LATER: u32 = 37;
/// [`ToAgent::Pong`](super::ToAgent::Pong).
pub const PONG: u32 = 38;
/// [`ToAgent::Error`](super::ToAgent::Error).
pub const ERROR: u32 = 39;
/// [`ToAgent::SyncNow`](super::ToAgent::SyncNow).
pub const SYNC_NOW: u32 = 40;
/// [`ToAgent::Probed`](super::ToAgent::Probed).
pub const PROBED: u32 = 41;
/// [`ToAgent::Settings`](super::ToAgent::Settings).
pub const SETTINGS: u32 = 42;
/// [`ToAgent::Run`](super::ToAgent::Run).
pub const RUN: u32 = 43;
/// [`ToAgent::Runs`](super::ToAgent::Runs).
pub const RUN_LIST: u32 = 44;
/// [`ToAgent::RunsStored`](super::ToAgent::RunsStored).
pub const RUNS_STORED: u32 = 45;
/// [`ToAgent::Resend`](super::ToAgent::Resend).
pub const RESEND: u32 = 46;
/// [`ToAgent::RenewNow`](super::ToAgent::RenewNow).
pub const RENEW_NOW: u32 = 47;
/// [`ToAgent::Renewed`](super::ToAgent::Renewed).
pub const RENEWED: u32 = 48;
/// [`ToAgent::Trust`](super::ToAgent::Trust).
pub const TRUST: u32 = 49;
/// [`ToAgent::Fork`](super::ToAgent::Fork).
pub const FORK: u32 = 50;
/// [`ToAgent::ArtifactPart`](super::ToAgent::ArtifactPart).
pub const ARTIFACT_PART: u32 = 51;
