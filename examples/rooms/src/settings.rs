//! The settings of the service. Nothing else in this crate reads the environment.

use amqp::AmqpSettings;
use foundation::Environment;

use crate::SERVICE;

/// The settings of the service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `ROOMS_PORT`, `ROOMS_DB_HOST` and so on.
    pub http: crud::Settings,
    /// `RABBITMQ_HOST` and so on: where the events go.
    pub broker: AmqpSettings,
}

impl Settings {
    /// Reads and checks all settings.
    pub fn read(environment: &Environment) -> Result<Self, foundation::Error> {
        Ok(Self {
            http: crud::Settings::read(environment, "ROOMS", (8091, 9311), SERVICE.name)?,
            broker: AmqpSettings::read(environment)?,
        })
    }
}
