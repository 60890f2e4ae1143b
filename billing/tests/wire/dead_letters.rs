//! Messages that can never become orders.

use std::time::{Duration, Instant};

use amqp::Properties;
use testkit::{Postgres, patience, wait_until};

use crate::{DEAD, QUEUE, Setup, order, publish};

#[test]
fn an_id_that_was_used_for_another_order_is_dead_lettered_with_the_reason() {
    let setup = Setup::start_on(Postgres::shared());
    let connection = setup.connect();
    publish(&connection, "same", &order(1));
    setup.wait_for_orders(1);
    publish(&connection, "same", &order(1));
    publish(&connection, "same", &order(2));
    publish(&connection, "other", &order(3));
    setup.wait_for_orders(2);

    let mut deliveries = connection.consume(DEAD, 10).unwrap();
    let mut dead = Vec::new();
    wait_until(patience(), "the conflict is dead-lettered", || {
        dead.extend(deliveries.next_batch(10, Duration::from_millis(50)).unwrap());
        !dead.is_empty()
    });
    assert_eq!((dead.len(), dead[0].body.as_slice()), (1, order(2).as_slice()));
    assert_eq!(dead[0].properties.message_id(), Some("same"));
    let reason = dead[0].properties.header("x-death-reason").unwrap();
    assert!(reason.contains("message_id was used before"), "{reason}");
}

/// The reason does not fit into this message's headers; the broker closes the connection of a client that adds it.
#[test]
fn a_dead_letter_that_the_broker_does_not_take_holds_up_no_order() {
    const FRAME_MAX_BYTES: usize = 131_072;
    let mut setup = Setup::start_on(Postgres::shared());
    setup.billing.terminate();
    let connection = setup.connect();
    publish(&connection, "before", &order(1));
    let properties = Properties::persistent_json("by-hand", "too large to bury")
        .with_header("filler", &"x".repeat(FRAME_MAX_BYTES - 130));
    connection.publish(QUEUE, properties, b"no order".to_vec(), patience()).unwrap();
    publish(&connection, "after", &order(2));
    let started = Instant::now();
    setup.billing.start();
    setup.wait_for_orders(2);
    // Each session is opened, and ended by the dead letter. Only work makes the next one come soon.
    wait_until(patience(), "four seconds pass", || started.elapsed() > Duration::from_secs(4));
    let sessions = setup.count_logged("trying again in");
    assert!((2..=9).contains(&sessions), "{sessions} sessions in four seconds");
    publish(&connection, "later", &order(3));
    setup.wait_for_orders(3);
    // Nothing but the dead letter comes back after the next start.
    setup.billing.terminate();
    wait_until(patience(), "the orders are acknowledged, and the dead letter is kept", || {
        connection.declare_queue(QUEUE).unwrap() == 1
    });
}
