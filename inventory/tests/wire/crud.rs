//! Movies are created, read, changed and deleted, and what cannot be is refused clearly.

use crate::support::{Inventory, json};

#[test]
fn a_movie_goes_through_its_life() {
    let inventory = Inventory::start();
    let created =
        inventory.send("POST", "/api/movies", r#"{"title": " Alien ", "description": "In space", "x": 1}"#);
    assert_eq!(created.status, 201);
    let id = json(&created)["id"].as_i64().unwrap();
    let expected = format!(r#"{{"id":{id},"title":"Alien","description":"In space"}}"#);
    assert_eq!(created.text(), expected);
    assert_eq!(created.header("location"), Some(format!("/api/movies/{id}").as_str()));
    assert_eq!(created.header("content-type"), Some("application/json"));

    let path = format!("/api/movies/{id}");
    assert_eq!(inventory.get(&path).text(), expected);
    assert_eq!(inventory.get(&format!("{path}/")).text(), expected);
    assert_eq!(json(&inventory.send("PUT", &path, r#"{"title": "Aliens"}"#))["description"], "In space");
    assert_eq!(json(&inventory.send("PATCH", &path, r#"{"description": ""}"#))["title"], "Aliens");
    assert_eq!(inventory.get(&path).text(), format!(r#"{{"id":{id},"title":"Aliens","description":""}}"#));

    let deleted = inventory.delete(&path);
    assert_eq!((deleted.status, json(&deleted)["id"].as_i64()), (200, Some(id)));
    assert_eq!(json(&deleted)["message"], "Movie was deleted successfully.");
    for gone in
        [inventory.get(&path), inventory.delete(&path), inventory.send("PUT", &path, r#"{"title":"x"}"#)]
    {
        assert_eq!(
            (gone.status, gone.text()),
            (404, r#"{"code":"movie_not_found","error":"Movie not found"}"#.to_owned())
        );
    }
}

#[test]
fn all_movies_are_deleted_at_once() {
    let inventory = Inventory::start();
    for title in ["a", "b", "c"] {
        inventory.create(title);
    }
    let deleted = inventory.delete("/api/movies/");
    assert_eq!(deleted.text(), r#"{"message":"Successfully deleted all 3 movies.","deleted":3}"#);
    assert_eq!(inventory.get("/api/movies").text(), "[]");
}

#[test]
fn bad_input_gets_a_clear_4xx() {
    let inventory = Inventory::start();
    let id = inventory.create("Alien");
    let path = format!("/api/movies/{id}");
    let long = format!(r#"{{"title": "{}"}}"#, "x".repeat(256));
    for (method, target, body, status, problem) in [
        ("POST", "/api/movies", "{", 400, "not valid JSON"),
        ("POST", "/api/movies", "[]", 400, "must be a JSON object"),
        ("POST", "/api/movies", "{}", 400, "title is required"),
        ("POST", "/api/movies", r#"{"title": 1917}"#, 400, "title must be a string"),
        ("POST", "/api/movies", r#"{"title": null}"#, 400, "title must be a string"),
        ("POST", "/api/movies", r#"{"title": "\u0000"}"#, 400, "U+0000"),
        ("POST", "/api/movies", r#"{"title": "  "}"#, 400, "title must not be empty"),
        ("POST", "/api/movies", long.as_str(), 400, "255"),
        ("PUT", path.as_str(), "{}", 400, "title or description must be given"),
        ("PUT", path.as_str(), r#"{"description": 1}"#, 400, "description must be a string"),
        ("PUT", "/api/movies/abc", r#"{"title":"x"}"#, 400, "positive 64-bit integer"),
        ("POST", path.as_str(), r#"{"title":"x"}"#, 405, "not allowed"),
        ("PUT", "/api/movies", r#"{"title":"x"}"#, 405, "not allowed"),
        ("POST", "/api/films", r#"{"title":"x"}"#, 404, "Not found"),
    ] {
        let response = inventory.send(method, target, body);
        assert_eq!(response.status, status, "{method} {target} {body}");
        let error = json(&response)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(problem), "{method} {target} {body}: {error}");
    }
    let fields = json(&inventory.send("POST", "/api/movies", r#"{"title": "", "description": 5}"#));
    assert_eq!(
        fields["fields"],
        serde_json::json!({"title": "must not be empty", "description": "must be a string"})
    );
    assert_eq!(inventory.titles("/api/movies"), ["Alien"]);
}

#[test]
fn a_body_must_say_that_it_is_json() {
    let inventory = Inventory::start();
    let body = Some(r#"{"title":"x"}"#);
    let send =
        |content_type| inventory.with("POST", "/api/movies", &[("content-type", content_type)], body).status;
    assert_eq!(send("text/plain"), 415);
    assert_eq!(send("application/x-www-form-urlencoded"), 415);
    assert_eq!(send("application/json; charset=utf-8"), 201);
    assert_eq!(send("application/vnd.movie+json"), 201);
}

#[test]
fn methods_are_told() {
    let inventory = Inventory::start();
    for (target, allowed) in [
        ("/api/movies", "GET, HEAD, POST, DELETE, OPTIONS"),
        ("/api/movies/7/", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
    ] {
        let options = inventory.with("OPTIONS", target, &[], None);
        assert_eq!((options.status, options.header("allow")), (204, Some(allowed)));
        let refused = inventory.with("TRACE", target, &[], None);
        assert_eq!((refused.status, refused.header("allow")), (405, Some(allowed)));
    }
}

#[test]
fn conditional_requests_compare_versions() {
    let inventory = Inventory::start();
    let path = format!("/api/movies/{}", inventory.create("Alien"));
    let tag = inventory.get(&path).header("etag").unwrap().to_owned();

    let unchanged = inventory.with("GET", &path, &[("if-none-match", &tag)], None);
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some(tag.as_str())));
    assert_eq!(inventory.with("HEAD", &path, &[("if-none-match", "\"other\"")], None).status, 200);

    let update = Some(r#"{"title":"Aliens"}"#);
    let updated = inventory.with("PUT", &path, &[("if-match", &tag)], update);
    assert_eq!(updated.status, 200);
    assert_ne!(updated.header("etag"), Some(tag.as_str()));
    for (method, body) in [("PUT", update), ("PATCH", update), ("DELETE", None)] {
        assert_eq!(inventory.with(method, &path, &[("if-match", &tag)], body).status, 412, "{method}");
        assert_eq!(inventory.with(method, &path, &[("if-match", "nonsense")], body).status, 400, "{method}");
    }
    assert_eq!(inventory.titles("/api/movies"), ["Aliens"]);
    assert_eq!(inventory.with("PUT", "/api/movies/999", &[("if-match", "*")], update).status, 404);
    assert_eq!(inventory.with("DELETE", &path, &[("if-match", "*")], None).status, 200);
}

#[test]
fn head_tells_the_length_and_sends_no_body() {
    let inventory = Inventory::start();
    let path = format!("/api/movies/{}", inventory.create("Alien"));
    let whole = inventory.get(&path);
    let head = inventory.with("HEAD", &path, &[], None);
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), whole.header("content-length"));
    assert_eq!(head.header("etag"), whole.header("etag"));
    assert!(head.body.is_empty());
}

#[test]
fn a_body_over_the_limit_is_refused_however_it_is_framed() {
    let inventory = Inventory::start_on(testkit::Postgres::shared(), &[("INVENTORY_BODY_MAX_BYTES", "2000")]);
    let body = format!(r#"{{"title":"x","description":"{}"}}"#, "y".repeat(3_000));
    assert_eq!(inventory.send("POST", "/api/movies", &body).status, 413);
    let chunked = format!(
        "POST /api/movies HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\
         \r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let mut connection = testkit::http::Connection::open(inventory.addr()).unwrap();
    connection.send(chunked.as_bytes()).unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 413);
    assert_eq!(inventory.titles("/api/movies"), Vec::<String>::new());
}
