//! Floor 3: SQLite state of the server.
#![forbid(unsafe_code)]
