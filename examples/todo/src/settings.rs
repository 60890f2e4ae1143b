//! The settings of the service. Nothing else in this crate reads the environment.

use crud::Settings;
use foundation::{Environment, Error};

use crate::tasks::TODO;

/// Reads and checks all settings: `TODO_PORT` and so on.
pub(crate) fn settings(environment: &Environment) -> Result<Settings, Error> {
    Settings::read(environment, "TODO", (8090, 9310), TODO.name)
}
