//! Measures one order's way on an idle system: from the request at the gateway to the row that everybody can see.
//!
//! `order-latency GATEWAY COUNT`, with the settings `BILLING_DB_…` in the environment. Prints the 50th and the 99th
//! percentile and the maximum, in milliseconds.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a measuring program, run by hand")]

use std::time::{Duration, Instant};

use foundation::Environment;
use testkit::Database;
use testkit::http::Connection;

/// How long the system rests between two orders.
const PAUSE: Duration = Duration::from_millis(10);

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, gateway, count] = arguments.as_slice() else {
        println!("usage: order-latency GATEWAY COUNT");
        return;
    };
    let environment = Environment::load().expect("the settings");
    let setting = |name: &str| environment.required(&format!("BILLING_DB_{name}")).expect("the settings");
    let mut database = Database {
        host: setting("HOST"),
        port: setting("PORT").parse().expect("a port"),
        name: setting("NAME"),
        user: setting("USER"),
        password: setting("PASSWORD"),
    }
    .client();
    let newest = database.prepare("SELECT coalesce(max(id), 0) FROM orders").expect("prepare");
    let mut read_newest = || -> i64 {
        let row = database.query_one(&newest, &[]).expect("read the newest order");
        row.get(0)
    };
    let mut connection =
        Connection::open(gateway.parse().expect("ADDRESS:PORT")).expect("connect to the gateway");
    let body = r#"{"user_id": "latency", "number_of_items": "1", "total_amount": "1"}"#;
    let mut times: Vec<Duration> = (0..count.parse().expect("a number"))
        .map(|_| {
            std::thread::sleep(PAUSE);
            let before = read_newest();
            let start = Instant::now();
            let answer = connection.request("POST", "/api/billing", &[], Some(body)).expect("post an order");
            assert_eq!(answer.status, 200, "{}", answer.text());
            while read_newest() == before {
                assert!(start.elapsed() < Duration::from_secs(10), "the order does not arrive");
            }
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
    println!("{:.1} {:.1} {:.1}", percentile(50), percentile(99), percentile(100));
}
