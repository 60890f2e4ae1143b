//! Crashes in the middle of many orders: every confirmed order ends in the table exactly once.

use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::orders::{assert_exactly_once, post_all, post_all_counting};
use testkit::{Platform, Postgres, patience, wait_until};

/// Enough that a crash happens in the middle.
const ORDERS: usize = 10_000;

/// How many clients of the database wait for a lock.
fn waiting_for_a_lock(client: &mut postgres::Client) -> i64 {
    let row = client
        .query_one(
            "SELECT count(DISTINCT pid) FROM pg_locks
              WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            &[],
        )
        .unwrap();
    row.get(0)
}

#[test]
fn billing_killed_in_the_middle_of_its_transactions_loses_and_repeats_nothing() {
    let mut platform = Platform::start();
    let addr = platform.addr();
    let mut observer = platform.billing_db.client();
    let mut blocker = platform.billing_db.client();
    std::thread::scope(|scope| {
        let posting = scope.spawn(|| post_all(addr, 0..ORDERS));
        for round in 1..=4 {
            wait_until(patience(), "billing makes progress", || {
                platform.count_orders() >= round * ORDERS / 10
            });
            // While the table is locked, billing cannot get out of its transaction; there it is killed.
            let mut lock = blocker.transaction().unwrap();
            lock.batch_execute("LOCK TABLE orders IN SHARE MODE").unwrap();
            wait_until(patience(), "billing is in a transaction", || waiting_for_a_lock(&mut observer) == 1);
            platform.billing.kill_9();
            lock.rollback().unwrap();
            platform.billing.start();
        }
        assert_eq!(posting.join().unwrap(), 0, "a dead billing is no reason to refuse an order");
    });
    assert_exactly_once(&platform, 0..ORDERS);
}

#[test]
fn the_broker_killed_while_orders_are_published_keeps_what_it_confirmed() {
    let mut platform = Platform::start();
    let addr = platform.addr();
    let confirmed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let posting = scope.spawn(|| post_all_counting(addr, 0..ORDERS, &confirmed));
        for round in 1..=3 {
            wait_until(patience(), "orders flow", || confirmed.load(Ordering::Relaxed) >= round * ORDERS / 5);
            assert!(!posting.is_finished(), "the kill must come in the middle");
            platform.broker.kill_9();
            platform.broker.start_again();
        }
        let repeats = posting.join().unwrap();
        assert!(repeats > 0, "with a dead broker nothing can have been confirmed");
    });
    assert_exactly_once(&platform, 0..ORDERS);
}

#[test]
fn postgresql_killed_while_orders_are_stored_loses_and_repeats_nothing() {
    let postgres = Postgres::start();
    let platform = Platform::start_on(&postgres);
    let addr = platform.addr();
    std::thread::scope(|scope| {
        let posting = scope.spawn(|| post_all(addr, 0..ORDERS));
        for round in 1..=3 {
            wait_until(patience(), "billing makes progress", || {
                platform.count_orders() >= round * ORDERS / 5
            });
            postgres.kill_9();
            postgres.start_again();
        }
        assert_eq!(posting.join().unwrap(), 0, "a dead database is no reason to refuse an order");
    });
    assert_exactly_once(&platform, 0..ORDERS);
}

#[test]
fn everything_killed_at_once_comes_back_with_every_confirmed_order() {
    let postgres = Postgres::start();
    let mut platform = Platform::start_on(&postgres);
    platform.billing.terminate();
    assert_eq!(post_all(platform.addr(), 0..1_000), 0);
    platform.gateway.kill_9();
    platform.broker.kill_9();
    postgres.kill_9();
    platform.inventory.kill_9();
    postgres.start_again();
    platform.broker.start_again();
    platform.inventory.start();
    platform.gateway.start();
    platform.billing.start();
    platform.wait_until_ready();
    assert_eq!(post_all(platform.addr(), 1_000..1_100), 0);
    assert_exactly_once(&platform, 0..1_100);
}

#[test]
fn two_billing_apps_share_the_queue() {
    let mut platform = Platform::start();
    let mut second = platform.second_billing();
    second.start();
    let mut observer = platform.billing_db.client();
    let mut blocker = platform.billing_db.client();
    let mut lock = blocker.transaction().unwrap();
    lock.batch_execute("LOCK TABLE orders IN SHARE MODE").unwrap();
    post_all(platform.addr(), 0..ORDERS / 2);
    wait_until(patience(), "both have work", || waiting_for_a_lock(&mut observer) == 2);
    // What the one had taken and not stored goes to the other.
    platform.billing.kill_9();
    lock.rollback().unwrap();
    assert_exactly_once(&platform, 0..ORDERS / 2);
    platform.billing.start();
    post_all(platform.addr(), ORDERS / 2..ORDERS);
    assert_exactly_once(&platform, 0..ORDERS);
}

#[test]
fn services_told_to_stop_leave_in_time_and_lose_nothing() {
    let mut platform = Platform::start();
    let addr = platform.addr();
    std::thread::scope(|scope| {
        let posting = scope.spawn(|| post_all(addr, 0..ORDERS));
        for signal in ["TERM", "INT"] {
            let stored = platform.count_orders();
            wait_until(patience(), "orders flow", || platform.count_orders() > stored + ORDERS / 20);
            platform.billing.signal(signal);
            assert!(platform.billing.wait().success(), "billing-app after SIG{signal}");
            platform.gateway.signal(signal);
            assert!(platform.gateway.wait().success(), "api-gateway after SIG{signal}");
            platform.gateway.start();
            platform.inventory.signal(signal);
            assert!(platform.inventory.wait().success(), "inventory-app after SIG{signal}");
            platform.inventory.start();
            platform.broker.stop();
            platform.broker.start_again();
            platform.billing.start();
        }
        posting.join().unwrap();
    });
    assert_exactly_once(&platform, 0..ORDERS);
}
