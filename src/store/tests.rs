//! The store as those see it who use it.

mod artifacts;
mod audit;
mod certificates;
mod crash;
mod damage;
mod membership;
mod persistent_links;
mod policy;
mod policy_history;
mod queries;
mod reach;
mod selection;
mod statistics;
mod status;
mod tasks;
mod ticket;
mod users;
mod writing;
