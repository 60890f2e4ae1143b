//! The whole contract, walked with resources that have every kind of field, against a real PostgreSQL. Two test programs
//! use this file: one asks the service itself, the other the gateway in front of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::http::request;
use testkit::{patience, wait_until};

use super::rooms::{SERVICE, Service, document, room};

#[test]
fn a_record_with_every_kind_of_field_goes_through_its_life() {
    let service = Service::start(&[]);
    let sent = json!({
        "id": "00000000-0000-4000-8000-000000000000", "name": " Böhm's \"place\" ", "url": "https://example.org/?a=b",
        "beds": 3, "price": "12.5", "visible": false, "built": "1899-12-31", "free_from": "2024-02-29T12:30:00.5+02:00",
        "state": "old", "coordinates": {"lat": 48.2, "lon": "16.37", "more": 1},
        "images": [{"url": "http://a"}, {"url": "http://b"}], "provider": "67E55044-10B1-426F-9247-BB680E5FE0C8",
        "owner": "thief", "likes": 99, "unknown": [],
    });
    let created = service.send("POST", "/room/", &[("x-user", "ann")], Some(&sent));
    assert_eq!(created.status, 201, "{}", created.text());
    let id = document(&created)["id"].as_str().unwrap().to_owned();
    assert!(id.len() == 36 && id != "00000000-0000-4000-8000-000000000000");
    let expected = format!(
        r#"{{"id":"{id}","name":"Böhm's \"place\"","url":"https://example.org/?a=b","beds":3,"price":12.50,"visible":false,"built":"1899-12-31","free_from":"2024-02-29T10:30:00.500000Z","state":"old","coordinates":{{"lat": 48.200000, "lon": 16.370000}},"images":[{{"url": "http://a"}}, {{"url": "http://b"}}],"provider":"67e55044-10b1-426f-9247-bb680e5fe0c8","owner":"ann","likes":0}}"#
    );
    assert_eq!(created.text(), expected);
    let path = format!("/room/{id}");
    assert_eq!(created.header("location"), Some(path.as_str()));
    let found = service.get(&path);
    assert_eq!((found.status, found.text()), (200, expected));
    assert_eq!(found.header("etag"), created.header("etag"));
    assert_eq!(service.get(&format!("/room/{}/", id.to_uppercase())).status, 200);

    let update = json!({"built": null, "coordinates": null, "price": 1e1, "owner": "thief", "likes": 7});
    let answer = service.send("UPDATE", &path, &[("x-user", "thief")], Some(&update));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let room = document(&answer);
    assert_eq!((&room["built"], &room["coordinates"]), (&Value::Null, &Value::Null));
    assert_eq!((&room["price"], &room["beds"]), (&json!(10.0), &json!(3)));
    assert_eq!((&room["owner"], &room["likes"]), (&json!("ann"), &json!(0)));

    let deleted = service.send("DELETE", &path, &[], None);
    let expected = json!({"message": "Room was deleted successfully.", "id": id});
    assert_eq!((deleted.status, document(&deleted)), (200, expected));
    assert_eq!(service.get(&path).text(), r#"{"code":"room_not_found","error":"Room not found"}"#);
}

#[test]
fn what_is_left_out_takes_its_default() {
    let service = Service::start(&[]);
    let created = document(&service.post("/room", &room(7)));
    assert_eq!(
        (&created["beds"], &created["visible"], &created["state"]),
        (&json!(1), &json!(true), &json!("new"))
    );
    for name in ["built", "free_from", "coordinates", "images", "provider", "owner"] {
        assert_eq!(created[name], Value::Null, "{name}");
    }
}

#[test]
fn what_breaks_a_rule_is_named() {
    let service = Service::start(&[]);
    let refused = service.post(
        "/room",
        &json!({"url": "x", "beds": 21, "price": 0.001, "visible": 1, "built": "2023-02-29", "free_from": "now", "state": "",
                "coordinates": {"lat": 91}, "images": [{"url": "http://a"}, {}], "provider": "x", "name": "a\u{0}"}),
    );
    assert_eq!(refused.status, 400);
    assert_eq!(
        document(&refused)["fields"],
        json!({
            "name": "must not contain U+0000",
            "url": "must be an absolute http or https URL of at most 2048 characters",
            "beds": "must be an integer from 0 to 20",
            "price": "must be a number with at most 6 digits before and 2 behind the point",
            "visible": "must be true or false",
            "built": "must be a day such as 2024-02-29",
            "free_from": "must be a time such as 2024-02-29T12:30:00Z",
            "state": "must be one of new, old",
            "coordinates.lat": "must be a number from -90 to 90 with at most 6 decimals",
            "coordinates.lon": "is required",
            "images[1].url": "is required",
            "provider": "must be a UUID",
        })
    );
    let own = json!({"name": "nowhere", "url": "http://a", "price": 1, "built": "2024-01-01"});
    assert_eq!(document(&service.post("/room", &own))["fields"], json!({"built": "cannot be known"}));
    let constraint = document(&service.post("/room", &room(1313)));
    assert_eq!(
        constraint,
        json!({"error": "price is not allowed", "code": "field_invalid", "fields": {"price": "is not allowed"}})
    );
    assert_eq!(service.get("/room/7").text(), r#"{"code":"field_invalid","error":"The id must be a UUID"}"#);
    assert_eq!(service.get("/room").text(), "[]");
}

#[test]
fn a_value_that_is_too_large_for_an_index_is_the_clients_mistake() {
    let service = Service::start(&[]);
    service.database.client().batch_execute("CREATE INDEX ON notes (text)").unwrap();
    // PostgreSQL cannot compress it to the 2,704 bytes that an entry of the index may have.
    let text: String = (1..=9_000_u64)
        .map(|n| {
            char::from(b'#' + (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] % 90)
        })
        .collect();
    let refused = service.post("/api/notes", &json!({"code": "x", "text": text}));
    assert_eq!(
        (refused.status, refused.text()),
        (400, r#"{"code":"field_invalid","error":"The note has a value that is too long"}"#.to_owned())
    );
}

#[test]
fn of_many_that_want_the_same_unique_value_one_gets_it() {
    let service = Service::start(&[("ROOMS_WORKERS", "2")]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..32)
            .map(|n| {
                let service = &service;
                scope.spawn(move || service.post("/room", &room(n % 2)).status)
            })
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 30, "{statuses:?}");
    let refused = service.post("/room", &room(0));
    assert_eq!(
        refused.text(),
        r#"{"code":"room_exists","error":"url is taken already","fields":{"url":"is taken already"}}"#
    );
    let other = document(&service.post("/room", &room(2)));
    let path = format!("/room/{}", other["id"].as_str().unwrap());
    assert_eq!(service.send("PATCH", &path, &[], Some(&json!({"url": "http://example.org/0"}))).status, 409);
}

#[test]
fn records_that_are_created_together_are_told_apart() {
    let service = Service::start(&[("ROOMS_WORKERS", "1")]);
    service.post("/api/codes", &json!({"code": "c"}));
    // A lock on the table makes the inserts wait, so that they are executed together.
    let mut client = service.database.client();
    let mut transaction = client.transaction().unwrap();
    transaction.batch_execute("LOCK TABLE rooms, notes").unwrap();
    std::thread::scope(|scope| {
        let service = &service;
        let threads: Vec<_> = (0..24)
            .map(|number| {
                scope.spawn(move || {
                    let note = service.post("/api/notes", &json!({"code": "c", "text": number.to_string()}));
                    let found = service.get(note.header("location").unwrap());
                    assert_eq!(document(&found)["text"], number.to_string());
                    let room = document(&service.post("/room", &room(number)));
                    assert_eq!(room["price"], json!(f64::from(number)));
                    let found = service.get(&format!("/room/{}", room["id"].as_str().unwrap()));
                    assert_eq!(document(&found), room);
                })
            })
            .collect();
        wait_until(patience(), "all to wait", || {
            let text = service.metrics();
            let running = text.lines().find_map(|line| line.strip_prefix("http_requests_in_flight "));
            running.is_some_and(|running| running.parse::<u32>().unwrap() >= 24)
        });
        transaction.rollback().unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let text = service.metrics();
    let count = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<u32>().unwrap()
    };
    assert!(count("database_batches_total ") < count("database_jobs_total ") - 10, "{text}");
}

#[test]
fn lists_are_searched_filtered_sorted_and_paged() {
    let service = Service::start(&[]);
    for number in 0..200 {
        let mut sent = room(number);
        sent["price"] = json!(number / 3);
        sent["state"] = json!(if number % 2 == 0 { "old" } else { "new" });
        sent["built"] = json!(format!("2024-01-{:02}", number % 28 + 1));
        assert_eq!(service.post("/room", &sent).status, 201);
    }
    assert_eq!(service.names("/room").len(), 200);
    assert_eq!(
        service.names("/room?name=ROOM+19&sort=name").join(","),
        "Room 19,Room 190,Room 191,Room 192,Room 193,Room 194,Room 195,Room 196,Room 197,Room 198,Room 199"
    );
    assert_eq!(service.names("/room?word=199"), ["Room 199"]);
    assert_eq!(service.names("/room?state=old").len(), 100);
    assert_eq!(service.names("/room?price_from=10&price_to=10.5").len(), 3);
    assert_eq!(service.names("/room?built=2024-01-28&state=old").len(), 0);
    assert_eq!(service.names("/room?visible=false").len(), 0);
    assert_eq!(service.names("/room?free_from_from=2024-01-01T00:00:00Z").len(), 0);
    for (target, first) in [
        ("/room?sort=price&limit=7", 0.0),
        ("/room?sort=-price&limit=70", 66.0),
        ("/room?sort=-price&state=old&limit=64", 66.0),
    ] {
        let (mut next, mut prices, mut ids) = (Some(target.to_owned()), Vec::new(), BTreeSet::new());
        while let Some(target) = next {
            let response = service.get(&target);
            assert_eq!(response.status, 200, "{target}: {}", response.text());
            for room in document(&response).as_array().unwrap() {
                prices.push(room["price"].as_f64().unwrap());
                ids.insert(room["id"].as_str().unwrap().to_owned());
            }
            next = response.header("link").map(|link| link[1..].split_once('>').unwrap().0.to_owned());
        }
        let expected = if target.contains("state") { 100 } else { 200 };
        assert_eq!((prices.len(), ids.len(), prices[0]), (expected, expected, first), "{target}");
        let is_sorted = if first > 0.0 { prices.is_sorted_by(|a, b| a >= b) } else { prices.is_sorted() };
        assert!(is_sorted, "{target}");
    }
    let refused = service.get("/room?sort=beds");
    assert_eq!(
        document(&refused)["fields"],
        json!({"sort": "must be one of id, name, price, with - in front for the reverse order"})
    );
    assert_eq!(service.get("/room?word=").status, 400);
}

#[test]
fn a_list_can_be_read_from_its_end() {
    let service = Service::start(&[]);
    for number in 0..5 {
        assert_eq!(service.post("/room", &room(number)).status, 201);
    }
    let ids = |target: &str| -> Vec<String> {
        let rooms = document(&service.get(target));
        rooms.as_array().unwrap().iter().map(|room| room["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ids("/room");
    assert!(all.is_sorted() && all == ids("/room?sort=id"));
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(ids("/room?sort=-id"), reversed);
    // The page in front of the last record, as a client reads it that goes back.
    let page = service.get(&format!("/room?sort=-id&after={}&limit=2", all[4]));
    assert_eq!(ids(&format!("/room?sort=-id&after={}&limit=2", all[4])), [all[3].clone(), all[2].clone()]);
    let link = format!("</room?limit=2&after={}&sort=-id>; rel=\"next\"", all[2]);
    assert_eq!(page.header("link"), Some(link.as_str()));
}

#[test]
fn records_are_counted_as_far_as_the_client_asks() {
    let service = Service::start(&[]);
    for number in 0..5 {
        assert_eq!(service.post("/room", &room(number)).status, 201);
    }
    for (query, expected) in [
        ("limit=1&count=10", Some("5")),
        ("count=5", Some("5")),
        ("count=4&limit=2&sort=-price", Some("4+")),
        ("name=room+3&count=10000", Some("1")),
        ("limit=1", None),
    ] {
        let response = service.get(&format!("/room?{query}"));
        assert_eq!((response.status, response.header("total-count")), (200, expected), "{query}");
    }
    assert_eq!(service.get("/room?count=10001").status, 400);
}

#[test]
fn actions_are_transactions() {
    let service = Service::start(&[]);
    let id = document(&service.post("/room", &room(1)))["id"].as_str().unwrap().to_owned();
    let like = format!("/room/{id}/like");
    let liked = service.send("POST", &like, &[("x-user", "ann")], None);
    assert_eq!((liked.status, document(&liked)[0]["likes"].as_i64()), (200, Some(1)));
    assert_eq!(service.send("POST", &like, &[], None).status, 401);
    let random = service.get("/room/random/");
    assert_eq!(document(&random)[0]["likes"], 1, "what was refused is undone");
    assert_eq!(
        service.send("HEAD", "/room/random", &[], None).header("content-length"),
        Some(random.body.len().to_string().as_str())
    );
    assert_eq!(
        service.send("POST", "/room/67e55044-10b1-426f-9247-bb680e5fe0c8/like", &[], None).status,
        404
    );
    let refused = service.send("DELETE", &like, &[], None);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST, OPTIONS")));
}

#[test]
fn only_what_is_allowed_can_be_done() {
    let service = Service::start(&[]);
    for (target, allowed) in [
        ("/room", "GET, HEAD, POST, OPTIONS"),
        ("/room/67e55044-10b1-426f-9247-bb680e5fe0c8", "GET, HEAD, PUT, PATCH, DELETE, UPDATE, OPTIONS"),
        ("/api/codes/", "GET, HEAD, POST, OPTIONS"),
        ("/api/codes/x", "GET, HEAD, OPTIONS"),
    ] {
        let options = service.send("OPTIONS", target, &[], None);
        assert_eq!((options.status, options.header("allow")), (204, Some(allowed)), "{target}");
        let refused = service.send("PURGE", target, &[], None);
        assert_eq!((refused.status, refused.header("allow")), (405, Some(allowed)), "{target}");
    }
}

#[test]
fn keys_that_clients_choose_exist_once() {
    let service = Service::start(&[]);
    let created = service.post("/api/codes", &json!({"code": "a b", "order": "x"}));
    assert_eq!(created.text(), r#"{"code":"a b","order":"x"}"#);
    assert_eq!(created.header("location"), Some("/api/codes/a%20b"));
    assert_eq!(service.get("/api/codes/a%20b").text(), created.text());
    let again = service.post("/api/codes", &json!({"code": "a b"}));
    assert_eq!(
        again.text(),
        r#"{"code":"code_exists","error":"code is taken already","fields":{"code":"is taken already"}}"#
    );
    assert_eq!(again.status, 409);
    let unknown = service.post("/api/notes", &json!({"code": "x"}));
    assert_eq!(
        (unknown.status, unknown.text().as_str()),
        (
            400,
            r#"{"code":"field_invalid","error":"code refers to something that does not exist","fields":{"code":"refers to something that does not exist"}}"#
        )
    );
}

#[test]
fn conditions_hold_for_changes() {
    let service = Service::start(&[]);
    service.post("/api/codes", &json!({"code": "c"}));
    let created = service.post("/api/notes", &json!({"code": "c"}));
    let (path, tag) = (created.header("location").unwrap(), created.header("etag").unwrap());
    let change = json!({"text": "new"});
    for (method, body) in [("PUT", Some(&change)), ("PATCH", Some(&change)), ("DELETE", None)] {
        for refusing in [("if-none-match", tag), ("if-none-match", "*"), ("if-match", "\"other\"")] {
            assert_eq!(service.send(method, path, &[refusing], body).status, 412, "{method} {refusing:?}");
        }
        for malformed in [("if-none-match", "x"), ("if-match", "x")] {
            assert_eq!(service.send(method, path, &[malformed], body).status, 400, "{method} {malformed:?}");
        }
    }
    assert_eq!(service.send("PUT", "/api/notes/99", &[("if-none-match", "*")], Some(&change)).status, 404);
    let both = [("if-match", tag), ("if-none-match", "\"other\"")];
    assert_eq!(service.send("PUT", path, &both, Some(&change)).status, 200);
    assert_eq!(service.send("PUT", path, &both, Some(&change)).status, 412);
    let held = service.get(path);
    let unchanged = service.send("GET", path, &[("if-none-match", held.header("etag").unwrap())], None);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
}

/// Where a body or a parameter has no example.
fn without_example(place: &str, value: &Value) -> Vec<String> {
    let own = value.get("schema").is_some() && value["example"].is_null();
    let mut found = if own { vec![place.to_owned()] } else { Vec::new() };
    for (name, part) in value.as_object().into_iter().flatten().filter(|(name, _)| *name != "schema") {
        found.extend(without_example(&format!("{place} {name}"), part));
    }
    for (index, part) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(without_example(&format!("{place} {index}"), part));
    }
    found
}

#[test]
fn a_service_describes_itself() {
    let service = Service::start(&[]);
    // No gateway lets this through: it is outside the resources.
    let openapi = document(&request(service.addr, "GET", "/openapi.json", None));
    assert_eq!(openapi["openapi"], "3.1.0");
    let methods = |path: &str| {
        let item = openapi["paths"][path].as_object().unwrap_or_else(|| panic!("{path} is not described"));
        item.keys().filter(|key| *key != "parameters").cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(methods("/room"), "get post");
    assert_eq!(methods("/room/{id}"), "delete get patch put");
    assert_eq!(methods("/room/{id}/like"), "post");
    assert_eq!(methods("/api/codes/{code}"), "get");
    assert_eq!(without_example("", &openapi["paths"]), [""; 0]);
    assert_eq!(openapi["paths"]["/room/{id}/like"]["post"]["operationId"], "postLikeRoom");
    let items = openapi["paths"].as_object().unwrap().values().filter_map(Value::as_object).flatten();
    let operations: Vec<_> =
        items.filter(|(name, _)| *name != "parameters").map(|(_, value)| value).collect();
    let ids: BTreeSet<_> =
        operations.iter().filter_map(|operation| operation["operationId"].as_str()).collect();
    assert_eq!(ids.len(), operations.len(), "every operation has a name of its own: {ids:?}");
    for operation in operations {
        assert!(operation["responses"]["400"].is_object(), "it says what a wrong request gets: {operation}");
    }
    let schemas = &openapi["components"]["schemas"];
    assert_eq!(schemas["NewRoom"]["required"], json!(["name", "url", "price"]));
    assert_eq!(schemas["Room"]["properties"]["state"]["enum"], json!(["new", "old"]));
    assert!(schemas["NewRoom"]["properties"].get("owner").is_none());
    let text = SERVICE.describe().unwrap();
    for part in [
        "/room/{id}/like",
        "means PUT",
        "decimal(8, 2)",
        r#"INSERT INTO "rooms""#,
        r#"DELETE FROM "rooms" WHERE"#,
        "taken from the header",
        "word=…",
        "Likes a room.",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    // Nothing is told that is never done: codes are neither changed nor deleted.
    assert!(text.contains(r#"INSERT INTO "codes""#) && !text.contains(r#"UPDATE "codes""#), "{text}");
}

#[test]
fn the_private_listener_tells_whose_a_service_is() {
    let profile = [
        ("ROOMS_OWNER", "Team Orange"),
        ("ROOMS_CONTACT", "orange@example.org"),
        ("ROOMS_REPOSITORY", "https://example.org/rooms"),
    ];
    // The secret between gateway and service is for the public listener alone.
    for more in [&[][..], &[("SERVICE_TOKEN", "known-to-the-gateway")]] {
        let service = Service::start(&[&profile[..], more].concat());
        let answer = request(service.private, "GET", "/openapi.json", None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let info = document(&answer)["info"].clone();
        let told =
            ["title", "version", "x-owner", "x-contact", "x-repository"].map(|name| info[name].clone());
        assert_eq!(
            told,
            ["rooms-app", "1.2.3", "Team Orange", "orange@example.org", "https://example.org/rooms"]
        );
        assert_eq!(info["x-depends-on"], json!(["postgresql"]));
        assert_eq!(request(service.private, "POST", "/openapi.json", None).status, 405);
    }
    let info = document(&request(Service::start(&[]).private, "GET", "/openapi.json", None))["info"].clone();
    assert_eq!((&info["x-owner"], &info["x-contact"]), (&Value::Null, &Value::Null));
}
