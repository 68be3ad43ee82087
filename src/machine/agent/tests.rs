//! The machine alone, spoken to by hand.
