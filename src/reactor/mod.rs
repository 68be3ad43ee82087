//! Floor 3: poll, links, TLS, timers.
#![forbid(unsafe_code)]
