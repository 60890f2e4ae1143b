//! Posts many orders at once, and checks that each was stored exactly once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::{Platform, patience, wait_until};

/// How many clients post at the same time.
const CLIENTS: usize = 8;
/// How long an order is retried while the gateway does not confirm it.
const TRY_LIMIT: Duration = Duration::from_secs(90);

/// The order number `n`; its values are unique as a combination.
pub fn order(n: usize) -> String {
    let (items, cents) = values(n);
    format!(
        r#"{{"user_id": "customer-{n}", "number_of_items": {items}, "total_amount": "{}.{:02}"}}"#,
        cents / 100,
        cents % 100
    )
}

/// Items and hundredths of the order number `n`.
fn values(n: usize) -> (usize, usize) {
    (n % 1_000 + 1, n * 7 + 3)
}

/// Posts the orders of `numbers` from several clients on connections that are kept alive. An order that is not
/// confirmed is posted again under the same idempotency key until it is. Returns the number of retries.
pub fn post_all(addr: SocketAddr, numbers: Range<usize>) -> usize {
    post_all_counting(addr, numbers, &AtomicUsize::new(0))
}

/// [`post_all`] that also counts confirmed orders in `confirmed`, for tests that act in the middle.
pub fn post_all_counting(addr: SocketAddr, numbers: Range<usize>, confirmed: &AtomicUsize) -> usize {
    let (next, repeats) = (AtomicUsize::new(numbers.start), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = None;
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= numbers.end {
                        return;
                    }
                    repeats.fetch_add(post(addr, n, &mut connection), Ordering::Relaxed);
                    confirmed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    repeats.into_inner()
}

/// Posts one order until it is confirmed; returns the number of failed attempts.
fn post(addr: SocketAddr, n: usize, connection: &mut Option<Connection>) -> usize {
    let (key, body) = (format!("order-{n}"), order(n));
    let start = Instant::now();
    for failures in 0.. {
        let answer = match connection.take().map_or_else(|| Connection::open(addr), Ok) {
            Ok(mut open) => {
                let answer = open.request("POST", "/api/billing", &[("idempotency-key", &key)], Some(&body));
                // The gateway may close after an answer, as it says then; a failed connection is not used again.
                if answer.as_ref().is_ok_and(|found| found.header("connection") != Some("close")) {
                    *connection = Some(open);
                }
                answer
            }
            Err(e) => Err(e),
        };
        match answer {
            Ok(answer) if answer.status == 200 => return failures,
            Ok(answer) if answer.status != 503 && answer.status != 504 => {
                panic!("order {n} was answered {}: {}", answer.status, answer.text())
            }
            failure => assert!(start.elapsed() < TRY_LIMIT, "order {n} is never confirmed: {failure:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    0
}

/// Waits until the orders of `numbers` are in the table, then checks that the table holds exactly these, each once and
/// with its values.
#[track_caller]
pub fn assert_exactly_once(platform: &Platform, numbers: Range<usize>) {
    let expected = numbers.len();
    wait_until(patience() * 2, &format!("{expected} orders arrive"), || platform.count_orders() >= expected);
    let mut client = platform.billing_db.client();
    let rows = client
        .query("SELECT user_id, number_of_items, total_amount::text FROM orders", &[])
        .expect("read the orders");
    let mut found = BTreeMap::new();
    for row in rows {
        let (user, items, amount): (String, i32, String) = (row.get(0), row.get(1), row.get(2));
        let before = found.insert(user.clone(), (items, amount));
        assert!(before.is_none(), "{user} ordered once, and is there twice");
    }
    for n in numbers {
        let (items, cents) = values(n);
        let (found_items, found_amount) = found.remove(&format!("customer-{n}")).expect("the order is there");
        assert_eq!(usize::try_from(found_items), Ok(items), "order {n}");
        assert_eq!(found_amount, format!("{}.{:02}", cents / 100, cents % 100), "order {n}");
    }
    assert!(found.is_empty(), "orders that nobody placed: {found:?}");
}
