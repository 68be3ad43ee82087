//! The machine that a run is on.

use std::fs;
use std::thread;

use super::proc_text;
use crate::report::model::Machine;

/// Text in place of what the system does not say.
const UNKNOWN: &str = "unknown";

/// Looks at this machine. Facts that the system does not say are `unknown` or 0.
pub(crate) fn machine() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let system = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Machine {
        cpu_model: proc_text::cpu_model(&read("/proc/cpuinfo")).unwrap_or_else(|| UNKNOWN.to_owned()),
        cores: thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: proc_text::kibibytes(&read("/proc/meminfo"), "MemTotal").unwrap_or(0),
        kernel: [system.sysname(), system.release(), system.machine()].map(part).join(" "),
        load_average: proc_text::load_average(&read("/proc/loadavg")).unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let machine = machine();
        assert!(machine.cores > 0 && machine.memory_bytes > 64 << 20, "{machine:?}");
        assert!(machine.kernel.starts_with("Linux ") && machine.load_average >= 0.0, "{machine:?}");
    }
}
