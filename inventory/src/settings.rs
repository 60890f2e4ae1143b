//! The settings of inventory. Nothing else in this crate reads the environment.

use crud::Settings;
use foundation::{Environment, Error};

use crate::INVENTORY;

/// Reads and checks all settings: `INVENTORY_PORT` and so on.
pub fn settings(environment: &Environment) -> Result<Settings, Error> {
    Settings::read(environment, "INVENTORY", (8080, 9302), INVENTORY.name)
}
