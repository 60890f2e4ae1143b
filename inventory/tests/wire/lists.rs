//! Lists: order, search, pages and streaming.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Inventory, json};

#[test]
fn the_search_is_exact_for_every_input() {
    let inventory = Inventory::start();
    let titles = [
        "The Matrix",
        "matrix reloaded",
        "100% Wolf",
        "A_B",
        "AxB",
        r"Back\slash",
        "L'Été en fête",
        "ÉTÉ",
        "Ab",
        "日本沈没",
        "🎬 Action",
        "O'Brien; DROP TABLE movies",
        "tab\there",
        "--",
    ];
    for title in titles {
        inventory.create(title);
    }
    for text in [
        "matrix",
        "MATRIX",
        "the m",
        "%",
        "_",
        "100%",
        "a_b",
        "\\",
        "k\\s",
        "été",
        "ÉTÉ",
        "a",
        "ab",
        "日本",
        "沈",
        "🎬",
        "'",
        ";",
        "\t",
        "-",
        "--",
        "nothing like it",
        " ",
        "x b",
        "trix re",
    ] {
        let wanted = text.to_lowercase();
        let expected: Vec<_> =
            titles.iter().filter(|title| title.to_lowercase().contains(&wanted)).copied().collect();
        let encoded = text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02x}"));
        assert_eq!(inventory.titles(&format!("/api/movies?title={encoded}")), expected, "{text:?}");
    }
    assert_eq!(inventory.titles("/api/movies?title=").len(), titles.len());
    assert_eq!(inventory.titles("/api/movies?title=the+m"), ["The Matrix"]);
}

#[test]
fn a_query_that_cannot_be_read_is_refused() {
    let inventory = Inventory::start();
    for target in [
        "/api/movies?title=%ff",
        "/api/movies?title=%00",
        "/api/movies?title=%2",
        "/api/movies?limit=0",
        "/api/movies?limit=1001",
        "/api/movies?after=-1",
        "/api/movies?limit=1&limit=2",
    ] {
        let response = inventory.get(target);
        assert_eq!(response.status, 400, "{target}");
        assert!(json(&response)["error"].is_string(), "{target}");
    }
}

#[test]
fn pages_lead_from_one_to_the_next_and_end() {
    let inventory = Inventory::start();
    for number in 0..7 {
        inventory.create(&format!("Movie {number}"));
    }
    inventory.create("Other");
    let (mut target, mut pages) = ("/api/movies?limit=3&title=movie".to_owned(), Vec::new());
    loop {
        let response = inventory.get(&target);
        pages.push(json(&response).as_array().unwrap().len());
        let Some(link) = response.header("link") else { break };
        let (next, relation) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert_eq!(relation, "; rel=\"next\"");
        target = next.to_owned();
    }
    assert_eq!(pages, [3, 3, 1]);
    assert!(inventory.get("/api/movies?limit=8").header("link").is_none());
    assert!(inventory.get("/api/movies?limit=7").header("link").is_some());
}

#[test]
fn a_long_list_arrives_whole_and_in_order() {
    let inventory = Inventory::start();
    inventory
        .database
        .client()
        .batch_execute("INSERT INTO movies (title) SELECT 'Movie ' || n FROM generate_series(1, 20000) n")
        .unwrap();
    let response = inventory.get("/api/movies");
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    let movies = json(&response);
    let ids: Vec<_> = movies.as_array().unwrap().iter().map(|movie| movie["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=20_000).collect::<Vec<_>>());

    let head = inventory.with("HEAD", "/api/movies", &[], None);
    assert_eq!((head.status, head.body.len()), (200, 0));

    let mut stream = TcpStream::connect(inventory.addr()).unwrap();
    stream.write_all(b"GET /api/movies HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("chunked"));
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), movies);
}

#[test]
fn clients_that_do_not_read_their_lists_hold_up_nobody() {
    let inventory = Inventory::start_on(testkit::Postgres::shared(), &[("INVENTORY_WORKERS", "2")]);
    let mut client = inventory.database.client();
    client
        .batch_execute(
            "INSERT INTO movies (title, description)
             SELECT 'Movie ' || n, repeat('x', 9000) FROM generate_series(1, 5000) n",
        )
        .unwrap();
    let stalled: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = TcpStream::connect(inventory.addr()).unwrap();
            stream.set_read_timeout(Some(testkit::patience())).unwrap();
            stream.write_all(b"GET /api/movies HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        })
        .collect();
    // Once the sockets' buffers are full, the readers need nothing of PostgreSQL any more.
    testkit::wait_until(testkit::patience(), "the readers to stand still", || {
        let query = "SELECT bool_and(state = 'idle' AND query_start < clock_timestamp() - interval '300 ms')
                     FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'inventory-app'";
        client.query_one(query, &[]).unwrap().get::<_, bool>(0)
    });
    for target in ["/api/movies/1", "/api/movies?limit=100", "/api/movies?title=4999"] {
        let started = std::time::Instant::now();
        assert_eq!(inventory.get(target).status, 200);
        assert!(started.elapsed() < Duration::from_secs(8), "{target} took {:?}", started.elapsed());
    }
    assert_eq!(inventory.send("POST", "/api/movies", r#"{"title":"x"}"#).status, 201);
    drop(stalled);
}

#[test]
fn long_pages_end_where_they_say() {
    let inventory = Inventory::start();
    inventory
        .database
        .client()
        .batch_execute("INSERT INTO movies (title) SELECT 'Movie ' || n FROM generate_series(1, 250) n")
        .unwrap();
    for (target, pages) in [
        ("/api/movies?limit=100", vec![100, 100, 50]),
        ("/api/movies?limit=125", vec![125, 125]),
        ("/api/movies?limit=63", vec![63, 63, 63, 61]),
        ("/api/movies?limit=64&title=movie", vec![64, 64, 64, 58]),
        ("/api/movies?limit=1000", vec![250]),
    ] {
        let (mut next, mut found, mut ids) = (Some(target.to_owned()), Vec::new(), Vec::new());
        while let Some(target) = next {
            let response = inventory.get(&target);
            let movies = json(&response);
            let movies = movies.as_array().unwrap();
            found.push(movies.len());
            ids.extend(movies.iter().map(|movie| movie["id"].as_i64().unwrap()));
            let link = response.header("link");
            next = link.map(|link| link[1..].split_once('>').unwrap().0.to_owned());
        }
        assert_eq!(found, pages, "{target}");
        assert_eq!(ids, (1..=250).collect::<Vec<_>>(), "{target}");
    }
}
