//! The settings of the service. Nothing else in this crate reads the environment.

use crud::Settings;
use foundation::{Environment, Error};

use crate::resource::SERVICE;

/// Reads and checks all settings: `@VARIABLE@_PORT` and so on.
pub(crate) fn settings(environment: &Environment) -> Result<Settings, Error> {
    Settings::read(environment, "@VARIABLE@", (@PORT@, @PRIVATE_PORT@), SERVICE.name)
}
