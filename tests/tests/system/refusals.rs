//! What a service says that is not let in: who refused, and what.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use testkit::http::{self, Connection};
use testkit::orders::order;
use testkit::{Broker, Platform, Postgres, Service, binary, free_port, patience, wait_until};

/// What `--check` has to say.
fn complaint(service: &Service) -> String {
    let output = service.output(&["--check"]);
    assert!(!output.status.success(), "{} finds nothing wrong", service.name());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_password_of_the_broker_is_told_as_one() {
    let mut platform = Platform::stopped_on(Postgres::shared());
    platform.inventory.start();
    platform.inventory.wait_for_line("applied migration");
    let refused = format!("127.0.0.1:{}: refused: wrong user or password", platform.broker.port);
    for (name, value) in [("RABBITMQ_PASSWORD", "dummy-wrong"), ("RABBITMQ_USER", "nobody")] {
        platform.gateway.set(name, value);
        platform.billing.set(name, value);
        for service in [&platform.gateway, &platform.billing] {
            let complaint = complaint(service);
            assert!(complaint.contains(&refused), "{complaint}");
            assert!(!complaint.contains("dummy-wrong"), "a password is in no log: {complaint}");
        }
    }
    platform.gateway.start();
    let line = platform.gateway.wait_for_line("cannot reach the broker");
    assert!(line.contains(&refused), "{line}");
    platform.billing.spawn();
    platform.billing.wait_for_line(&refused);
}

#[test]
fn a_virtual_host_that_is_not_there_is_told_as_one() {
    let mut platform = Platform::stopped_on(Postgres::shared());
    platform.inventory.start();
    platform.inventory.wait_for_line("applied migration");
    platform.gateway.set("RABBITMQ_VHOST", "elsewhere");
    let complaint = complaint(&platform.gateway);
    let refused =
        "refused: no access to the virtual host 'elsewhere': NOT_ALLOWED - vhost elsewhere not found";
    let expected = format!("127.0.0.1:{}: {refused}", platform.broker.port);
    assert!(complaint.contains(&expected), "{complaint}");
}

#[test]
fn postgresql_s_refusal_names_host_and_port() {
    let database = Postgres::shared().create_database();
    let broker = Broker::start();
    let mut settings = database.settings("BILLING_DB");
    settings.extend(broker.settings());
    let port = settings["BILLING_DB_PORT"].clone();
    let mut billing = Service::new(binary("billing-app"), settings.clone());
    billing.set("BILLING_DB_PASSWORD", "dummy-wrong");
    let wrong = complaint(&billing);
    let at = format!("connect to postgresql at 127.0.0.1:{port}: ");
    assert!(wrong.contains(&at) && wrong.contains("password authentication failed"), "{wrong}");

    let mut inventory_settings = database.settings("INVENTORY_DB");
    let unused = free_port().to_string();
    inventory_settings.insert("INVENTORY_DB_PORT".to_owned(), unused.clone());
    let away = complaint(&Service::new(binary("inventory-app"), inventory_settings));
    let at = format!("connect to postgresql at 127.0.0.1:{unused}: ");
    assert!(away.contains(&at) && away.contains("refused"), "{away}");
}

#[test]
fn refused_reports_are_told_with_the_reason_and_come_when_they_are_allowed() {
    let mut platform = Platform::stopped_on(Postgres::shared());
    let Some(management) = platform.broker.management_addr() else { return };
    let login = STANDARD.encode(format!("{}:{}", platform.broker.user, platform.broker.password));
    let authorization = format!("Basic {login}");
    let manage = |method, body| {
        let headers = [("authorization", authorization.as_str()), ("connection", "close")];
        let target = "/api/exchanges/%2F/billing_queue.reports";
        Connection::open(management).unwrap().request(method, target, &headers, body).unwrap().status
    };
    // An exchange of another type is refused as one without permission is: by closing the channel.
    assert_eq!(manage("PUT", Some(r#"{"type": "topic"}"#)), 201);
    platform.inventory.start();
    platform.billing.start();
    platform.gateway.start();
    for (service, complaint) in [
        (&mut platform.billing, "no reports can be sent"),
        (&mut platform.gateway, "billing cannot be heard"),
    ] {
        let line = service.wait_for_line(complaint);
        assert!(line.contains("406 PRECONDITION_FAILED"), "{line}");
    }
    let addr = platform.addr();
    assert_eq!(http::request(addr, "POST", "/api/billing", Some(&order(1))).status, 200);
    wait_until(patience(), "the order is stored all the same", || platform.count_orders() == 1);

    assert_eq!(manage("DELETE", None), 204);
    platform.billing.wait_for_line("reports can be sent again");
    platform.gateway.wait_for_line("billing can be heard");
    wait_until(patience(), "the console knows of billing", || {
        let status = http::request(addr, "GET", "/api/status", None).text();
        status.contains(r#""instances":1"#)
    });
}
