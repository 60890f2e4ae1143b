//! Tokens: who may do what, and that no token gets further than the gateway.

use testkit::Folder;

use crate::support::{
    Answer, Gateway, Inventory, NO_SETTINGS, authorization, eventually, gateway_binary, new_token,
};

/// The roles, from the one that may do least.
const ROLES: [&str; 3] = ["read", "write", "admin"];
/// Every kind of route, with the least role that may use it once reading is not public.
const ROUTES: [(&str, &str, Option<usize>); 39] = [
    ("GET", "/api/movies", Some(0)),
    ("HEAD", "/api/movies/", Some(0)),
    ("OPTIONS", "/api/movies", Some(0)),
    ("POST", "/api/movies", Some(1)),
    ("DELETE", "/api/movies", Some(2)),
    ("DELETE", "/api/movies/", Some(2)),
    ("DELETE", "/api/movies?title=a", Some(2)),
    ("GET", "/api/movies/7", Some(0)),
    ("PUT", "/api/movies/7", Some(1)),
    ("PATCH", "/api/movies/7", Some(1)),
    ("DELETE", "/api/movies/7", Some(1)),
    ("PURGE", "/api/movies/7", Some(1)),
    ("GET", "/todo/1", Some(0)),
    ("POST", "/todo", Some(1)),
    ("DELETE", "/todo/1", Some(1)),
    ("DELETE", "/todo", Some(2)),
    ("DELETE", "/todo/tags", Some(2)),
    ("DELETE", "/todo/1/tags/", Some(2)),
    ("DELETE", "/todo/tags/1", Some(1)),
    ("DELETE", "/todo/2f1c7f0e-0c9b-4f3b-9a53-5f7a4c0d8e11", Some(1)),
    ("PUT", "/todo/tags", Some(1)),
    ("GET", "/todo/tags", Some(0)),
    ("POST", "/api/billing", Some(1)),
    ("OPTIONS", "/api/billing", None),
    ("GET", "/api/status/orders/1", Some(1)),
    ("GET", "/api/status/orders?message_id=1", Some(1)),
    ("GET", "/api/status", Some(2)),
    ("GET", "/api/services", Some(2)),
    ("GET", "/api/orders", Some(2)),
    ("GET", "/api/orders/1", Some(2)),
    ("GET", "/api/dead-letters", Some(2)),
    ("POST", "/api/dead-letters/00000000000000000000000000000000", Some(2)),
    ("DELETE", "/api/dead-letters/00000000000000000000000000000000", Some(2)),
    ("OPTIONS", "/api/status", None),
    ("GET", "/health", None),
    ("GET", "/ready", None),
    ("GET", "/", None),
    ("GET", "/openapi.json", None),
    ("GET", "/nowhere", None),
];

/// A gateway with a token of each role, whose clients are called reader, writer and adminer.
struct Door {
    gateway: Gateway,
    inventory: Inventory,
    todo: Inventory,
    tokens: Vec<String>,
}

impl Door {
    fn start(variables: &[(&str, &str)]) -> Self {
        let (inventory, todo) = (Inventory::fixed("inventory"), Inventory::fixed("todo"));
        let (tokens, lines): (Vec<_>, Vec<_>) =
            ROLES.iter().map(|role| new_token(&format!("{role}er"), role)).unzip();
        let todo_url = todo.url();
        let lines = lines.join(",");
        let own = [
            ("GATEWAY_TOKENS", lines.as_str()),
            ("GATEWAY_SERVICES", "todo=/todo"),
            ("TODO_URL", todo_url.as_str()),
        ];
        let gateway = Gateway::start(&inventory.url(), &[&own, variables].concat());
        Self { gateway, inventory, todo, tokens }
    }

    /// Asks with the token of the role with this index, or without one.
    fn ask(&self, method: &str, target: &str, role: Option<usize>) -> Answer {
        let field = role.map_or_else(String::new, |role| authorization(&self.tokens[role]));
        ask(&self.gateway, method, target, &field)
    }

    /// How many requests reached a service.
    fn served(&self) -> usize {
        self.inventory.served() + self.todo.served()
    }
}

fn ask(gateway: &Gateway, method: &str, target: &str, fields: &str) -> Answer {
    let mut client = gateway.connect();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n");
    client.send(request.as_bytes());
    client.try_answer(method == "HEAD").unwrap()
}

/// Checks that every role may use the routes that it may, and no others.
fn check(door: &Door, needed_role: impl Fn(&str, &str, Option<usize>) -> Option<usize>) {
    for (method, target, needed) in ROUTES {
        let needed = needed_role(method, target, needed);
        for role in [None, Some(0), Some(1), Some(2)] {
            let before = door.served();
            let answer = door.ask(method, target, role);
            let what = format!("{method} {target} with {role:?}: {}", answer.status);
            let challenge = answer.field("www-authenticate").unwrap_or_default();
            match (needed, role) {
                (Some(_), None) => {
                    assert_eq!(answer.status, 401, "{what}");
                    assert_eq!(challenge, r#"Bearer realm="movies""#, "{what}");
                }
                (Some(needed), Some(role)) if role < needed => {
                    assert_eq!(answer.status, 403, "{what}");
                    let scope = format!(r#"error="insufficient_scope", scope="{}""#, ROLES[needed]);
                    assert!(challenge.starts_with("Bearer ") && challenge.ends_with(&scope), "{challenge}");
                    assert!(method == "HEAD" || answer.error().ends_with(ROLES[needed]), "{what}");
                }
                _ => assert!(!matches!(answer.status, 401 | 403), "{what}"),
            }
            let refused = matches!(answer.status, 401 | 403);
            assert!(!refused || door.served() == before, "{what}: a service was asked nevertheless");
        }
    }
}

#[test]
fn every_role_may_do_what_it_may_and_no_more() {
    let door = Door::start(&[("GATEWAY_PUBLIC_READS", "0")]);
    check(&door, |_, _, needed| needed);
}

#[test]
fn reading_is_open_unless_told_otherwise() {
    let door = Door::start(&[]);
    check(&door, |_, _, needed| needed.filter(|needed| *needed > 0));
}

#[test]
fn a_spelling_of_a_collection_is_that_collection_or_refused() {
    let door = Door::start(&[]);
    for target in ["/api/movies//", "/api/movies/.", "/api/./movies", "/api/movies/x/..", "/api/movie%73"] {
        assert_eq!(door.ask("DELETE", target, Some(1)).status, 400, "{target}");
    }
    for target in ["/api/movies/?", "http://elsewhere/api/movies", "/api/movies?limit=1"] {
        assert_eq!(door.ask("DELETE", target, Some(1)).status, 403, "{target}");
    }
    assert_eq!(door.served(), 0);
}

#[test]
fn a_token_that_is_not_valid_is_refused_even_where_none_is_needed() {
    let door = Door::start(&[]);
    for token in ["wrong", "d3JpdGVyOndyb25n", &door.tokens[0][..63], &format!("{}0", door.tokens[0])] {
        let answer = ask(&door.gateway, "GET", "/api/movies", &authorization(token));
        assert_eq!((answer.status, answer.error().as_str()), (401, "the token is not valid"));
        assert!(answer.field("www-authenticate").unwrap().contains(r#"error="invalid_token""#));
    }
    let twice = authorization(&door.tokens[2]).repeat(2);
    for malformed in ["Authorization: Bearer\r\n", twice.as_str(), &authorization(&"x".repeat(513))] {
        assert_eq!(ask(&door.gateway, "GET", "/api/movies", malformed).status, 400);
    }
    assert_eq!(door.served(), 0);
}

#[test]
fn client_and_secret_in_base64_are_a_token_too() {
    // The digest of "a long enough secret of shop".
    let line = "shop:write:22b0da76e0a8d4936a2be1f065920746e03e84d5d166bb78751127d2f93ab625";
    let inventory = Inventory::fixed("inventory");
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_TOKENS", line)]);
    for (token, status) in [
        ("c2hvcDphIGxvbmcgZW5vdWdoIHNlY3JldCBvZiBzaG9w", 200),
        // The same secret of another client, and another secret of the same client.
        ("c2hpcDphIGxvbmcgZW5vdWdoIHNlY3JldCBvZiBzaG9w", 401),
        ("c2hvcDphbm90aGVyIHNlY3JldA==", 401),
        ("c2hvcDphbm90aGVyIHNlY3JldA", 401),
    ] {
        assert_eq!(ask(&gateway, "DELETE", "/api/movies/1", &authorization(token)).status, status, "{token}");
    }
}

#[test]
fn a_token_reaches_no_service_and_no_log() {
    let door = Door::start(&[("LOG_LEVEL", "trace")]);
    for role in [0, 1, 2] {
        for (method, target, _) in ROUTES {
            door.ask(method, target, Some(role));
        }
    }
    let secrets: Vec<&str> = door.tokens.iter().map(String::as_str).collect();
    for request in door.inventory.requests().iter().chain(&door.todo.requests()) {
        assert!(request.field("authorization").is_none(), "{}", request.head);
        assert!(!secrets.iter().any(|secret| request.head.contains(secret)));
    }
    assert!(door.served() > 20);
    let log = door.gateway.log();
    assert!(log.contains("GET") && !secrets.iter().any(|secret| log.contains(secret)));
    // What is none of ours is passed on as it came.
    ask(&door.gateway, "GET", "/api/movies/8", "Authorization: Basic YTpi\r\n");
    let requests = door.inventory.requests();
    assert_eq!(requests.last().unwrap().field("authorization"), Some("Basic YTpi"));
}

#[test]
fn the_file_of_tokens_is_read_again_when_it_changes() {
    let folder = Folder::new("tokens");
    let file = folder.path().join("tokens");
    let (first, first_line) = new_token("first", "write");
    let (second, second_line) = new_token("second", "write");
    std::fs::write(&file, format!("# one client\n{first_line}\n")).unwrap();
    let inventory = Inventory::fixed("inventory");
    let path = file.to_str().unwrap();
    let gateway = Gateway::start(&inventory.url(), &[("GATEWAY_TOKENS_FILE", path)]);
    let status = |token: &str| ask(&gateway, "POST", "/api/movies", &authorization(token)).status;
    assert_eq!((status(&first), status(&second)), (200, 401));
    std::fs::write(&file, format!("{second_line}\n")).unwrap();
    eventually("the second is let in", || status(&second) == 200);
    assert_eq!(status(&first), 401);
    // What cannot be read changes nothing.
    std::fs::write(&file, "nonsense\n").unwrap();
    eventually("the nonsense is told", || gateway.log().contains("the tokens stay as they were"));
    assert_eq!((status(&first), status(&second)), (401, 200));
    std::fs::remove_file(&file).unwrap();
    eventually("the loss is told", || gateway.log().matches("the tokens stay as they were").count() == 2);
    assert_eq!(status(&second), 200);
    std::fs::write(&file, format!("{first_line}:1999-01-01\n{second_line}:2999-01-01\n")).unwrap();
    eventually("the first is known again", || {
        ask(&gateway, "GET", "/", &authorization(&first)).error() == "the token has expired"
    });
    assert_eq!(status(&second), 200);
    // A file without a token lets nobody in.
    std::fs::write(&file, "").unwrap();
    eventually("nobody is let in", || status(&second) == 401);
}

#[test]
fn a_gateway_does_not_start_with_tokens_that_cannot_be_read() {
    for (name, value) in [("GATEWAY_TOKENS", "alice:read:s3cret"), ("GATEWAY_TOKENS_FILE", "/nowhere/tokens")]
    {
        let output = gateway_binary()
            .env_clear()
            .envs([("RABBITMQ_USER", "u"), ("RABBITMQ_PASSWORD", "p"), ("GATEWAY_PRIVATE_PORT", "0")])
            .envs([("GATEWAY_HOST", "127.0.0.1"), ("GATEWAY_PORT", "0"), (name, value)])
            .current_dir(NO_SETTINGS)
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complaint.contains(name), "{complaint}");
        assert!(!complaint.contains("s3cret"), "{complaint}");
    }
    let output = gateway_binary().args(["--new-token", "alice"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = gateway_binary().args(["--new-token", "alice", "root"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_gateway_that_everybody_reaches_without_a_token_says_so() {
    let inventory = Inventory::fixed("[]");
    let open = Gateway::start(&inventory.url(), &[("GATEWAY_HOST", "0.0.0.0")]);
    assert!(open.log().contains("no tokens are configured"), "{}", open.log());
    let local = Gateway::start(&inventory.url(), &[]);
    assert!(!local.log().contains("no tokens are configured"));
    let (_, line) = new_token("alice", "read");
    let closed = Gateway::start(&inventory.url(), &[("GATEWAY_HOST", "0.0.0.0"), ("GATEWAY_TOKENS", &line)]);
    assert!(!closed.log().contains("no tokens are configured"));
}

#[test]
fn services_know_the_gateway_by_its_own_token() {
    let inventory = Inventory::fixed("inventory");
    let secret = "known-to-services";
    let gateway = Gateway::start(&inventory.url(), &[("SERVICE_TOKEN", secret), ("LOG_LEVEL", "trace")]);
    let field = "X-Service-Token: guessed\r\n";
    assert_eq!(ask(&gateway, "GET", "/api/movies/1", field).status, 200);
    assert_eq!(gateway.get("/ready").status, 503);
    let requests = inventory.requests();
    let targets: Vec<_> = requests.iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/api/movies/1", "/ready"]);
    assert!(requests.iter().all(|request| request.field("x-service-token") == Some(secret)));
    assert!(!gateway.log().contains(secret));
    // Without a token of its own, the gateway passes none on.
    let plain = Gateway::start(&inventory.url(), &[]);
    ask(&plain, "GET", "/api/movies/2", field);
    assert_eq!(inventory.requests().last().unwrap().field("x-service-token"), None);
}

#[test]
fn a_service_that_refuses_the_gateway_is_no_fault_of_the_client() {
    let inventory = Inventory::answering(|_| {
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: ServiceToken\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let gateway = Gateway::start(&inventory.url(), &[]);
    let answer = gateway.get("/api/movies/1");
    assert_eq!((answer.status, answer.error().as_str()), (502, "inventory sent an invalid answer"));
    eventually("the cause is told", || gateway.log().contains("it does not accept our SERVICE_TOKEN"));
}
