//! One room: indexed once, with everything that it needs, and kept as it was sent.

use serde_json::{Value, json};

use crate::support::{Rooms, document, room};

#[test]
fn a_room_goes_through_its_life() {
    let rooms = Rooms::start();
    let sent = room(1, &[]);
    let created = rooms.send("POST", "/room", Some(&sent));
    assert_eq!(created.status, 201, "{}", created.text());
    let stored = document(&created);
    let id = stored["id"].as_str().unwrap();
    assert_eq!(created.header("location"), Some(format!("/room/{id}").as_str()));
    for (name, value) in sent.as_object().unwrap() {
        match name.as_str() {
            "area" => {
                for (part, value) in value.as_object().unwrap() {
                    assert_eq!(stored["area"][part], *value, "{part}");
                }
            }
            _ => assert_eq!(stored[name], *value, "{name}"),
        }
    }
    assert_eq!(stored["is_visible"], json!(true));
    let path = format!("/room/{id}");
    assert_eq!(document(&rooms.get(&path)), stored);

    let changed = rooms.send("PATCH", &path, Some(&json!({"price": 60, "is_visible": false})));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let changed = document(&changed);
    assert_eq!((&changed["price"], &changed["is_visible"]), (&json!(60), &json!(false)));
    assert_eq!(changed["coordinates"], stored["coordinates"]);

    assert_eq!(rooms.send("DELETE", &path, None).status, 200);
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(rooms.send(method, &path, Some(&json!({"price": 1}))).status, 404, "{method}");
    }
    assert_eq!(rooms.get("/room/1").status, 400, "an id is a UUID");
}

#[test]
fn what_a_room_lacks_is_named() {
    let rooms = Rooms::start();
    let required = [
        "name",
        "description",
        "price",
        "recurrency",
        "url",
        "monthly_price",
        "property_size",
        "provider",
        "coordinates",
    ];
    let nothing = rooms.send("POST", "/room", Some(&json!({})));
    assert_eq!(nothing.status, 400);
    let fields = document(&nothing)["fields"].clone();
    assert_eq!(fields.as_object().unwrap().len(), required.len(), "{fields}");
    for name in required {
        let response = rooms.send("POST", "/room", Some(&room(1, &[(name, Value::Null)])));
        assert_eq!(response.status, 400, "{name}");
        let fields = document(&response)["fields"].clone();
        assert_eq!(fields.as_object().unwrap().len(), 1, "{fields}");
        assert_eq!(fields[name], json!("is required"), "{fields}");
    }
    for (name, value, complaint) in [
        ("coordinates", json!({"lat": 48.2}), "lon"),
        ("coordinates", json!({"lat": 90.1, "lon": 0}), "lat"),
        ("coordinates", json!({"lat": 0, "lon": -180.5}), "lon"),
        ("coordinates", json!("48.2,16.37"), "object"),
        ("area", json!({"name": "Neubau", "city": "Wien"}), "country"),
        ("images", json!([{"url": "http://a"}, {}]), "url"),
        ("images", json!([{"url": "no url"}]), "url"),
        ("images", json!("http://a"), "array"),
        ("url", json!("rooms.example/1"), "URL"),
        ("price", json!("50"), "integer"),
        ("price", json!(-1), "from 0"),
        ("name", json!("  "), "empty"),
    ] {
        let response = rooms.send("POST", "/room", Some(&room(1, &[(name, value.clone())])));
        assert_eq!(response.status, 400, "{name}: {value}");
        let fields = document(&response)["fields"].to_string();
        assert!(fields.starts_with(&format!(r#"{{"{name}"#)) && fields.contains(complaint), "{fields}");
    }
    assert_eq!(rooms.names(""), Vec::<String>::new());
}

#[test]
fn a_url_is_indexed_once() {
    const CLIENTS: usize = 100;
    let rooms = Rooms::start();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (rooms, name) = (&rooms, json!(format!("Client {client}")));
                scope.spawn(move || rooms.send("POST", "/room", Some(&room(7, &[("name", name)]))).status)
            })
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), CLIENTS - 1, "{statuses:?}");
    let conflict = rooms.send("POST", "/room", Some(&room(7, &[])));
    assert!(conflict.status == 409 && conflict.text().contains("url"), "{}", conflict.text());
    let other = rooms.create(8, &[]);
    let url = json!({"url": "http://rooms.example/7"});
    assert_eq!(rooms.send("PATCH", &format!("/room/{other}"), Some(&url)).status, 409);
    let mut client = rooms.database.client();
    let events: i64 = client.query_one("SELECT count(*) FROM outbox", &[]).unwrap().get(0);
    assert_eq!(events, 2, "a room that is not indexed is no event");
}
