//! Inventory: a service for movies, made with the `crud` crate.

mod movies;
mod settings;

pub use movies::{INVENTORY, MOVIES};
pub use settings::settings;
