//! With a service token, inventory serves its gateway and nobody else.

use testkit::{Postgres, http, patience, wait_until};

use crate::support::Inventory;

const TOKEN: &str = "known-to-the-gateway";

#[test]
fn who_does_not_know_the_token_is_refused_everything_but_the_private_listener() {
    let mut inventory = Inventory::stopped_on(Postgres::shared(), &[("SERVICE_TOKEN", TOKEN)]);
    inventory.service.start();
    let status = |method: &str, target: &str, token: &str| {
        inventory.with(method, target, &[("X-Service-Token", token)], None).status
    };
    wait_until(patience(), "the schema", || status("GET", "/ready", TOKEN) == 200);
    assert_eq!(status("GET", "/api/movies", TOKEN), 200);
    for (method, target) in [
        ("GET", "/api/movies"),
        ("DELETE", "/api/movies"),
        ("GET", "/health"),
        ("GET", "/ready"),
        ("GET", "/openapi.json"),
        ("OPTIONS", "/api/movies"),
        ("GET", "/nowhere"),
        ("GET", "//"),
    ] {
        for wrong in ["", "known-to-the-gatewa", "known-to-the-gateway!", "Known-to-the-gateway"] {
            assert_eq!(status(method, target, wrong), 401, "{method} {target} {wrong}");
        }
        let without = http::request(inventory.addr(), method, target, None);
        assert_eq!((without.status, without.header("www-authenticate")), (401, Some("ServiceToken")));
    }
    let twice = [("X-Service-Token", TOKEN), ("X-Service-Token", TOKEN)];
    assert_eq!(inventory.with("GET", "/api/movies", &twice, None).status, 401);
    let private = inventory.service.private_addr();
    assert_eq!(http::request(private, "GET", "/ready", None).status, 200);
    assert!(!inventory.service.log().contains(TOKEN));
}
