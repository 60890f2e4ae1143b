//! The whole platform: two databases, the broker and the three services, each on a free port.

use std::net::SocketAddr;

use crate::{
    Broker, Database, Postgres, Service, Settings, binary, free_port, http, patience, settings, wait_until,
};

/// The queue that orders travel through.
const QUEUE: &str = "billing_queue";

/// All parts, connected as in `.env`. Each part can be stopped and started separately and keeps its port.
pub struct Platform {
    /// The gateway.
    pub gateway: Service,
    /// The inventory.
    pub inventory: Service,
    /// Billing.
    pub billing: Service,
    /// The broker.
    pub broker: Broker,
    /// The inventory's database.
    pub movies_db: Database,
    /// Billing's database.
    pub billing_db: Database,
}

impl Platform {
    /// Starts everything on the PostgreSQL that the tests share and waits until the gateway is ready.
    pub fn start() -> Self {
        Self::start_on(Postgres::shared())
    }

    /// Starts everything on `postgres` and waits until the gateway is ready.
    pub fn start_on(postgres: &Postgres) -> Self {
        let mut platform = Self::stopped_on(postgres);
        platform.inventory.start();
        platform.billing.start();
        platform.gateway.start();
        platform.wait_until_ready();
        platform
    }

    /// Starts the databases and the broker; configures the three services without starting them.
    pub fn stopped_on(postgres: &Postgres) -> Self {
        let (movies_db, billing_db) = (postgres.create_database(), postgres.create_database());
        let broker = Broker::start();
        let inventory_port = free_port().to_string();
        let inventory = merged([
            settings([("INVENTORY_HOST", "127.0.0.1"), ("INVENTORY_PORT", &inventory_port)]),
            movies_db.settings("INVENTORY_DB"),
        ]);
        let gateway = merged([
            settings([
                ("GATEWAY_HOST", "127.0.0.1"),
                ("GATEWAY_PORT", &free_port().to_string()),
                ("INVENTORY_URL", &format!("http://127.0.0.1:{inventory_port}")),
                ("BILLING_QUEUE", QUEUE),
            ]),
            broker.settings(),
        ]);
        Self {
            gateway: Service::new(binary("api-gateway"), gateway),
            inventory: Service::new(binary("inventory-app"), inventory),
            billing: billing_service(&billing_db, &broker),
            broker,
            movies_db,
            billing_db,
        }
    }

    /// Another inventory-app on the same database, on a port of its own, not started yet.
    pub fn second_inventory(&self) -> Service {
        let port = free_port().to_string();
        let addr = settings([("INVENTORY_HOST", "127.0.0.1"), ("INVENTORY_PORT", &port)]);
        Service::new(binary("inventory-app"), merged([addr, self.movies_db.settings("INVENTORY_DB")]))
    }

    /// Another billing-app on the same queue and database, not started yet.
    pub fn second_billing(&self) -> Service {
        billing_service(&self.billing_db, &self.broker)
    }

    /// Waits until the gateway answers /ready with 200.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let addr = self.gateway.addr();
        wait_until(patience(), "the gateway is ready", || {
            http::try_request(addr, "GET", "/ready", None).is_ok_and(|response| response.status == 200)
        });
    }

    /// The gateway's address.
    pub fn addr(&self) -> SocketAddr {
        self.gateway.addr()
    }

    /// The number of rows in `orders`.
    pub fn count_orders(&self) -> usize {
        let row =
            self.billing_db.client().query_one("SELECT count(*) FROM orders", &[]).expect("count orders");
        usize::try_from(row.get::<_, i64>(0)).expect("a count is not negative")
    }
}

fn billing_service(database: &Database, broker: &Broker) -> Service {
    let queue = settings([("BILLING_QUEUE", QUEUE)]);
    let settings = merged([queue, database.settings("BILLING_DB"), broker.settings()]);
    Service::new(binary("billing-app"), settings).ready_when("consuming from billing_queue")
}

fn merged<const N: usize>(parts: [Settings; N]) -> Settings {
    parts.into_iter().flatten().collect()
}
