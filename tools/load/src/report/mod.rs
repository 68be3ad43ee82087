//! The display of a run: while it goes on, and of its results.

mod axis;
#[cfg(test)]
mod example;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod model;
mod plots;
pub(crate) mod progress;
mod svg;
pub(crate) mod table;
pub(crate) mod text;
