//! Descriptors: each link takes one, and those of a process are limited.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;

/// Descriptors of a process that are not for links: polls, files, pipes, libraries.
const RESERVE: usize = 256;

/// Descriptors that a server of this program keeps for itself: files, administration, handshakes beyond its
/// limit.
const SERVER_RESERVE: usize = 1_000;

/// Raises the soft limit of open files to the hard one, and answers with it.
pub(crate) fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // A limit that can't be raised is what it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Number of client processes for this many links.
pub(crate) fn processes(devices: usize, descriptors: usize, wanted: usize) -> usize {
    devices.div_ceil(descriptors.saturating_sub(RESERVE).max(1)).max(wanted).max(1)
}

/// Refuses what the tool's own server could not hold.
pub(crate) fn check_own_server(devices: usize, descriptors: usize) -> Result<(), Failure> {
    let most = descriptors.saturating_sub(SERVER_RESERVE);
    if devices <= most {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{devices} devices are more than the server of --self can hold here: a process may have {descriptors} open files, which \
         is about {most} links; raise the hard limit ('ulimit -Hn', LimitNOFILE), or take --devices {most}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_split_over_as_many_processes_as_it_needs() {
        assert_eq!(processes(10_000, 20_000, 1), 1);
        assert_eq!(processes(19_744, 20_000, 1), 1);
        assert_eq!(processes(19_745, 20_000, 1), 2);
        assert_eq!(processes(100_000, 20_000, 1), 6);
        assert_eq!(processes(10, 20_000, 3), 3);
        assert_eq!(processes(0, 100, 0), 1);
    }

    #[test]
    fn what_the_own_server_can_not_hold_is_refused_with_what_to_do() {
        assert!(check_own_server(19_000, 20_000).is_ok());
        let error = check_own_server(19_001, 20_000).unwrap_err();
        assert!(error.message.contains("19000") && error.message.contains("ulimit"), "{error}");
        assert_eq!(error.code, 1);
    }
}
