//! A report with something of everything, for the tests of the renderers. Its numbers are invented.

use hdrhistogram::Histogram;

use super::model::{Curve, Figure, Latency, Machine, Report};

pub(crate) fn report() -> Report {
    let (sync, device) = ("server_cpu_microseconds_per_sync", "private_bytes_per_device");
    let fitted = vec![(0.0, 9_437_184.0), (18_000.0, 14_322_384.0)];
    let latency = |name: &str, label: &str, histogram| Latency {
        name: name.to_owned(),
        label: label.to_owned(),
        histogram,
    };
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let measured: Vec<(f64, f64)> = (0..=18)
        .map(|step| {
            (f64::from(step) * 1_000.0, 9_437_184.0 + f64::from(step * 271_400 + (step * 37_000) % 90_000))
        })
        .collect();
    let recovery = |delay: f64| -> Vec<(f64, f64)> {
        let at = |step: i32| f64::from(step) * 0.05;
        (0..=80).map(|step| (at(step), 18_000.0 / (1.0 + (-(at(step) - delay) * 4.0).exp()))).collect()
    };
    Report {
        command: "hold".to_owned(),
        title: "18,000 devices on one server".to_owned(),
        started_at: "2026-11-24T10:00:00.000Z".to_owned(),
        seconds: 93.4,
        machine: Machine {
            cpu_model: "Example CPU <2.5 GHz>".to_owned(),
            cores: 2,
            memory_bytes: 4 << 30,
            kernel: "Linux 6.18.44 x86_64".to_owned(),
            load_average: 0.31,
        },
        versions: pairs(&[("muster-load", "0.1.0"), ("musterd", "0.1.0")]),
        parameters: pairs(&[
            ("devices", "18000"),
            ("client threads", "2"),
            ("server", "its own, on loopback"),
        ]),
        figures: vec![
            Figure::new("links", "links: held", 18_000.0, ""),
            Figure::new("links_lost", "links: lost", 0.0, ""),
            Figure::new("handshakes_per_second", "links: full handshakes", 5_312.0, "on 1 of 2 cores"),
            Figure::new("idle_cpu_percent", "processor time: holding, of one core", 0.42, ""),
            Figure::new(sync, "processor time: a sync with no change", 7.31, ""),
            Figure::new("held_private_bytes", "memory: the server with all links", 14_322_384.0, ""),
            Figure::new(device, "memory: a connected device", 271.4, "slope over 19 points"),
            Figure::new("kernel_bytes_per_socket", "memory: the kernel's, a socket", 4_030.0, "measured"),
            Figure::new("capacity_devices", "capacity: devices", 780_000.0, ""),
        ],
        latencies: vec![
            latency("handshake", "full handshake", spread(900, 40_000)),
            latency("sync", "sync with no change", spread(140, 60_000)),
        ],
        curves: vec![
            Curve::new(
                ("memory", "Private memory of the server"),
                ("links", "private memory, bytes"),
                vec![("measured".to_owned(), measured), ("271 bytes a link".to_owned(), fitted)],
            ),
            Curve::new(
                ("recovery", "Devices that are live again"),
                ("seconds since the start", "devices"),
                vec![("live".to_owned(), recovery(1.6)), ("target".to_owned(), recovery(2.4))],
            ),
        ],
        notes: vec!["The figures of this example are invented.".to_owned()],
        conclusion: Some("this server can hold about 780,000 devices in 4 GiB".to_owned()),
        passed: Some(true),
    }
}

/// Times around a middle, with a long tail, the same in every run.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
fn spread(middle_microseconds: u32, count: u32) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    for _ in 0..count {
        let sum: f64 = (0..12).map(|_| next()).sum::<f64>() - 6.0;
        let tail = if next() > 0.995 { 3.0 + 4.0 * next() } else { 1.0 };
        let value = f64::from(middle_microseconds) * (0.25 * sum).exp() * tail;
        histogram.record(value.max(1.0) as u64).unwrap();
    }
    histogram
}
