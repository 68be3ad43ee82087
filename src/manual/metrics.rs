//! Watching a server with Prometheus and Grafana.
//!
//! `GET /metrics` of the administration API has the server's numbers as text. It takes a reader's right on
//! `/`: an API token over the network, or nothing at the socket.
//!
//! # Scraping
//!
//! On the server, with `[admin] listen` in `musterd.toml` ([`administration`](super::administration)):
//!
//! ```sh
//! musterctl api-token create prometheus --role reader --ttl 365d   # prints the token, this once
//! ```
//!
//! On the machine that scrapes, the token goes into the file `/etc/prometheus/muster.token`, for Prometheus'
//! user alone, and the certificate of muster's own authority into `/etc/prometheus/muster.pem`: it is
//! `identity/ca-certificate.pem` in the server's data directory, no secret, and stays the same when the
//! server's key is rotated. The name in the server's certificate is `muster`, whatever its host is called:
//!
//! ```text
//! scrape_configs:
//!   - job_name: muster
//!     scheme: https
//!     authorization:
//!       credentials_file: /etc/prometheus/muster.token
//!     tls_config:
//!       ca_file: /etc/prometheus/muster.pem
//!       server_name: muster
//!     static_configs:
//!       - targets: ['muster.example.org:13001']
//! ```
//!
//! That is `tools/prometheus/muster.yml`. A server whose `[tls]` names files shows the certificate in them
//! instead: `muster.pem` is then that of its authority, and `server_name` a name that it has. A scrape looks
//! at each device in memory once, as `musterctl status` does, and takes nothing from any device.
//!
//! # Alerts and the dashboard
//!
//! `tools/prometheus/rules.yml` has alert rules, with what to do in each: devices lost, a full disk, damage,
//! a backup that fails or is late, a certificate that ends, devices that lack the next pin, limits that are
//! reached, a clock that is not believed, restarts. `tools/grafana/muster.json` is a dashboard, to be
//! imported.
//!
//! # The metrics
//!
//! Labels have few values, and none names a device. A timestamp is in seconds since 1970. Values that are not
//! there, such as the time of a backup where none is scheduled, are left out. Counters begin at 0 when the
//! server starts.
//!
#![doc = include_str!("../admin/metrics.md")]
#![forbid(unsafe_code)]
