//! What can go wrong, and the alert that says so.

/// The crypto library refused what it can't refuse: it has no memory left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the crypto library failed")]
pub struct CryptoFailed;
