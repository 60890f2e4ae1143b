//! The service as a whole: HTTP, and beside it the relay that publishes the events.

use events::{Relay, RelaySettings};
use foundation::Shutdown;

use crate::error::Error;
use crate::rooms::{EXCHANGE, SERVICE};
use crate::settings::Settings;

/// Checks the description, the database and the broker.
pub fn check(settings: &Settings) -> Result<(), Error> {
    SERVICE.check(&settings.http)?;
    Ok(relay(settings).check()?)
}

/// Serves until told to stop.
pub fn run(settings: Settings, shutdown: Shutdown) -> Result<(), Error> {
    let relay = Relay::start(relay(&settings), shutdown.clone()).map_err(crud::Error::Thread)?;
    let running = SERVICE.build_beside(Some(relay.inspect()), settings.http, shutdown)?;
    let outcome = running.run();
    relay.stop();
    Ok(outcome?)
}

fn relay(settings: &Settings) -> RelaySettings {
    RelaySettings {
        application: SERVICE.name,
        exchange: EXCHANGE,
        broker: settings.broker.clone(),
        database: settings.http.database.clone(),
        migrations: SERVICE.migrations,
    }
}
