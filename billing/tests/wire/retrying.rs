//! PostgreSQL is away or refuses work: the deliveries and the broker session are kept.

use std::time::{Duration, Instant};

use testkit::{Postgres, patience, wait_until};

use crate::{QUEUE, Setup, order, publish};

#[test]
fn a_read_only_database_is_tried_ever_more_slowly_on_the_same_broker_session() {
    let postgres = Postgres::start();
    let setup = Setup::start_on(&postgres);
    let connection = setup.connect();
    publish(&connection, "first", &order(0));
    setup.wait_for_orders(1);

    let mut superuser = postgres.superuser("postgres").unwrap();
    let name = &setup.database.name;
    let end_sessions = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = '{name}' AND application_name = 'billing-app'"
    );
    superuser
        .batch_execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .unwrap();
    superuser.batch_execute(&end_sessions).unwrap();
    for n in 1..=20 {
        publish(&connection, &format!("order {n}"), &order(n));
    }
    wait_until(patience(), "billing keeps messages", || setup.count_logged("messages are kept") > 0);
    let begun = Instant::now();
    wait_until(patience(), "four seconds pass", || begun.elapsed() > Duration::from_secs(4));
    let attempts = setup.count_logged("messages are kept");
    // 0.1 s, 0.2 s, … up to 5 s, each of them at least half of that.
    assert!((3..=9).contains(&attempts), "{attempts} attempts in four seconds");

    superuser.batch_execute(&format!("ALTER DATABASE {name} RESET default_transaction_read_only")).unwrap();
    setup.wait_for_orders(21);
    assert_eq!(setup.count_logged("consuming from"), 1, "the broker session must stay");
    assert_eq!(connection.declare_queue(QUEUE).unwrap(), 0);
}

#[test]
fn a_stopped_postgresql_costs_no_order_and_no_broker_session() {
    let postgres = Postgres::start();
    let mut setup = Setup::start_on(&postgres);
    let connection = setup.connect();
    postgres.stop();
    for n in 0..20 {
        publish(&connection, &format!("order {n}"), &order(n));
    }
    wait_until(patience(), "billing keeps messages", || setup.count_logged("messages are kept") > 0);
    postgres.start_again();
    setup.wait_for_orders(20);
    assert_eq!(setup.count_logged("consuming from"), 1);

    // Told to stop while it keeps messages, it leaves at once, and the next one stores them.
    postgres.stop();
    publish(&connection, "order 20", &order(20));
    let kept = setup.count_logged("messages are kept");
    wait_until(patience(), "billing keeps a message", || setup.count_logged("messages are kept") > kept);
    let told = Instant::now();
    assert!(setup.billing.terminate().success());
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
    postgres.start_again();
    setup.billing.start();
    setup.wait_for_orders(21);
}
