//! Who is told that publishers have to wait, when, and how.

use crate::server::{Server, eventually};
use crate::support::{Args, Client, Login};

/// More than any disk has free.
const ALL: &str = "1125899906842624";

/// A client that does not announce that it understands connection.blocked.
fn plain() -> Login {
    let capabilities = Args::new().octet(b'F').table(&[("basic.nack", b"t\x01")]);
    let properties = Args::new().table(&[("capabilities", &capabilities.0)]).0;
    Login { properties, ..Server::login() }
}

pub(crate) fn plain_client(server: &Server) -> Client {
    let mut client = Client::connect(server.address, &plain());
    client.open_channel(1);
    client
}

#[track_caller]
pub(crate) fn expect_flow(client: &mut Client, channel: u16, active: bool) {
    assert_eq!(client.expect(channel, 20, 20).arguments().octet(), u8::from(active));
    client.method(channel, 20, 21, Args::new().octet(u8::from(active)));
}

#[test]
fn whoever_publishes_is_told_at_once_in_the_words_that_it_understands() {
    let server = Server::with(&[("BROKER_DISK_FREE_MIN_BYTES", ALL)]);
    eventually("the alarm is raised", || server.log().contains("nearly full").then_some(()));

    let mut silent = server.client();
    silent.declare(1, "q", crate::support::DURABLE);
    assert!(silent.is_silent(), "who does not publish is told nothing");

    let mut publisher = server.client();
    publisher.confirm_select(1);
    let reason = publisher.expect(0, 10, 60).arguments().short_string();
    assert_eq!(reason, "low on disk");
    publisher.open_channel(2);
    publisher.confirm_select(2);
    assert!(publisher.is_silent(), "a connection is told once");
    let states = server.api().json("/api/connections?columns=state&sort=state");
    assert_eq!(states, serde_json::json!([{ "state": "blocked" }, { "state": "running" }]));
    let alarms = server.api().get("/api/health/checks/alarms");
    assert_eq!((alarms.status, &alarms.json()["status"]), (503, &serde_json::json!("failed")));
    assert_eq!(alarms.json()["alarms"][0]["resource"], "disk");

    let mut plain = plain_client(&server);
    plain.confirm_select(1);
    expect_flow(&mut plain, 1, false);
    plain.open_channel(2);
    plain.confirm_select(2);
    expect_flow(&mut plain, 2, false);

    // Without confirms, the first message is the first sign of publishing.
    let mut unconfirmed = server.client();
    unconfirmed.publish(1, "", "q", false, b"waits");
    unconfirmed.expect(0, 10, 60);
    assert_eq!(silent.depth(1, "q"), 0);
}
