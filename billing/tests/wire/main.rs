//! Billing's behaviour at the wire: the real binary between a real broker and a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod dead_letters;
mod retrying;

use amqp::{AmqpSettings, Connection, Properties};
use foundation::Environment;
use testkit::{Broker, Database, Postgres, Service, patience, settings, wait_until};

const QUEUE: &str = "billing_queue";
const DEAD: &str = "billing_queue.dead";

/// One billing-app with a queue and a database of its own.
struct Setup {
    broker: Broker,
    database: Database,
    billing: Service,
}

impl Setup {
    fn start_on(postgres: &Postgres) -> Self {
        let (broker, database) = (Broker::start(), postgres.create_database());
        let mut all = settings([("BILLING_QUEUE", QUEUE)]);
        all.extend(broker.settings());
        all.extend(database.settings("BILLING_DB"));
        let mut billing =
            Service::new(env!("CARGO_BIN_EXE_billing-app"), all).ready_when("consuming from billing_queue");
        billing.start();
        Self { broker, database, billing }
    }

    /// A connection to the broker, as somebody who publishes by hand.
    fn connect(&self) -> Connection {
        let settings = AmqpSettings::read(&Environment::from_pairs(self.broker.settings())).unwrap();
        Connection::open(&settings, "billing-tests").unwrap()
    }

    #[track_caller]
    fn wait_for_orders(&self, count: i64) {
        wait_until(patience(), "the orders are stored", || self.count_orders() >= count);
        assert_eq!(self.count_orders(), count);
    }

    fn count_orders(&self) -> i64 {
        self.database.client().query_one("SELECT count(*) FROM orders", &[]).unwrap().get(0)
    }

    /// How often billing has logged a line that contains `text`.
    fn count_logged(&self, text: &str) -> usize {
        self.billing.log().lines().filter(|line| line.contains(text)).count()
    }
}

fn publish(connection: &Connection, message_id: &str, body: &[u8]) {
    let properties = Properties::persistent_json("by-hand", message_id);
    connection.publish(QUEUE, properties, body.to_vec(), patience()).unwrap();
}

fn order(user_id: usize) -> Vec<u8> {
    format!(r#"{{"user_id":"{user_id}","number_of_items":1,"total_amount":1}}"#).into_bytes()
}
