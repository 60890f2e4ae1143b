//! Inventory: movies, made of the `crud` crate.

mod movies;
mod settings;

pub use movies::{INVENTORY, MOVIES};
pub use settings::settings;
