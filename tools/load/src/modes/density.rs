//! Memory of a connected device, and the number of devices that there can be.
//!
//! Two slopes: of servers that know half and all of the devices, each just started, and of one server over
//! its links. One-time costs of the first devices are in neither: caches, statements and buffers that have a
//! limit.

use super::stage::{Stage, Started, float};
use crate::observe::capacity::capacity;
use crate::observe::kernel::{KernelSample, socket_memory};
use crate::observe::slope::Line;
use crate::report::model::Curve;

/// Devices below which nothing is said of what one takes: a page more or less would be hundreds of bytes.
const SLOPE_DEVICES_MIN: usize = 1_000;

const GIBIBYTE: f64 = 1_073_741_824.0;

/// Whether `devices` devices are enough to say what one takes.
pub(crate) fn is_enough(devices: usize) -> bool {
    devices >= SLOPE_DEVICES_MIN
}

/// The server at one number of links.
pub(crate) struct Point {
    links: usize,
    /// 0: there is nothing to be seen of it.
    private_bytes: u64,
    pub(crate) resident_bytes: u64,
    kernel: Option<KernelSample>,
}

impl Point {
    /// Waits until the server has given back what it does not need, and looks at it.
    pub(crate) fn take(stage: &mut Stage, links: usize) -> Self {
        let watch = &mut stage.watch;
        // If no slope is made of it nobody need wait.
        let sample = if is_enough(stage.devices.len()) { watch.quiet() } else { watch.rest() };
        let (private_bytes, resident_bytes) =
            sample.map_or((0, 0), |sample| (sample.private_bytes, sample.resident_bytes));
        Self { links, private_bytes, resident_bytes, kernel: KernelSample::take() }
    }
}

/// Adds what a device takes, and how many there can be, to the report.
pub(crate) fn report(stage: &mut Stage, points: &[Point], asked_gib: Option<f64>) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
    let sockets = socket_memory(first.kernel.as_ref(), last.kernel.as_ref());
    stage.noted_figure(
        "kernel_bytes_per_socket",
        "memory: the kernel's, for a socket",
        sockets.bytes,
        if sockets.is_measured { "measured" } else { "not measured: the project's figure" },
    );
    stage.note(sockets.note);
    // Without a sample of the server there is nothing to fit.
    if first.private_bytes == 0 || last.links == 0 {
        return;
    }
    let known = known(&stage.started);
    let empty_bytes = stage.started.first().filter(|started| started.devices == 0).map(|it| it.private_bytes);
    if let Some(each) = slope(stage, points, known) {
        let idle = empty_bytes.unwrap_or(first.private_bytes);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of gibibytes"
        )]
        let asked = asked_gib.map_or(stage.report.machine.memory_bytes, |gib| (gib * GIBIBYTE) as u64);
        let capacity = capacity(idle, each, sockets.bytes, asked);
        stage.count("capacity_devices", "capacity: devices", capacity.devices);
        stage.note(capacity.explanation());
        if let Some(most) = stage.watch.descriptors_max().filter(|most| *most < capacity.devices) {
            stage.note(format!(
                "That is what memory allows. As the server's process was started, it may have {most} files open, each link takes one: raise LimitNOFILE, or \
                 'ulimit -n', before it is to hold more."
            ));
        }
        stage.report.conclusion = Some(capacity.to_string());
    }
    let known_bytes = stage.started.last().map(|started| started.private_bytes);
    let (idle, held) = (Some(first.private_bytes), Some(last.private_bytes));
    for (name, label, bytes) in [
        ("empty_server_private_bytes", "memory: the server without devices", empty_bytes),
        ("known_private_bytes", "memory: the server before the first link", known_bytes),
        ("idle_private_bytes", "memory: the server when all had been there and gone", idle),
        ("held_private_bytes", "memory: the server with all links", held),
    ] {
        stage.figure(name, label, bytes.map(float));
    }
}

/// Memory of a device that the server knows, in bytes: the difference between two of the servers that were
/// started.
fn known(started: &[Started]) -> Option<f64> {
    let (last, others) = started.split_last()?;
    let half = others.iter().rfind(|other| other.devices > 0 && other.devices < last.devices)?;
    let bytes = float(last.private_bytes) - float(half.private_bytes);
    Some(bytes / float(last.devices - half.devices))
}

/// Adds the slopes to the report. Memory of a connected device; `None` when there are too few to tell.
fn slope(stage: &mut Stage, points: &[Point], known: Option<f64>) -> Option<f64> {
    let last = points.last()?;
    let measured: Vec<_> =
        points.iter().map(|point| (float(point.links as u64), float(point.private_bytes))).collect();
    if !is_enough(last.links) {
        stage.note(format!(
            "{} links are too few to tell what one takes from what else moves in a process: with --devices {SLOPE_DEVICES_MIN} or \
             more the run says how many the server can hold.",
            last.links
        ));
        return None;
    }
    // Not through the server without links: with the first come buffers that stay.
    let line = Line::fit(&measured[1..])?;
    stage.noted_figure(
        "private_bytes_per_link",
        "memory: the server's, for a link",
        line.slope,
        &format!(
            "slope of private memory over {} steps, off by {:.0} KiB",
            line.points,
            line.residual / 1024.0
        ),
    );
    stage.figure("private_bytes_per_known_device", "memory: the server's, for a device that it knows", known);
    let each = line.slope + known.unwrap_or(0.0);
    stage.figure("private_bytes_per_device", "memory: the server's, for a connected device", each);
    let fit = line.between(0.0, float(last.links as u64));
    let name = ("memory", "Private memory of the server");
    let series = vec![("measured".to_owned(), measured), (format!("{:.0} bytes a link", line.slope), fit)];
    stage.report.curves.push(Curve::new(name, ("links", "private memory, bytes"), series));
    Some(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_known_device_takes_is_the_slope_between_two_servers_that_know_some() {
        let started =
            |devices, private_bytes| Started { devices, private_bytes, resident_bytes: private_bytes };
        let servers = [started(0, 3_000_000), started(9_000, 6_000_000), started(18_000, 7_800_000)];
        assert_eq!(known(&servers), Some(200.0));
        // Nothing that came with the first device is counted as theirs.
        assert_eq!(known(&servers[..2]), None);
        assert_eq!(known(&servers[2..]), None);
        assert_eq!(known(&[]), None);
    }
}
