//! Lists of rooms: words, filters, the neighbourhood of a point, pages.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{Rooms, document, name};

#[test]
fn words_are_found_with_and_without_accents() {
    let rooms = Rooms::start();
    for (number, (name, description)) in [
        ("Köln", "Près du métro"),
        ("Łódź centrum", "Duży pokój"),
        ("Zimmer in Graz", "Groß und hell, nahe der Universität"),
    ]
    .into_iter()
    .enumerate()
    {
        rooms.create(number, &[("name", json!(name)), ("description", json!(description))]);
    }
    for (query, found) in [
        ("q=koln", vec!["Köln"]),
        ("q=K%C3%96LN", vec!["Köln"]),
        ("q=lodz", vec!["Łódź centrum"]),
        ("q=metro+pres", vec!["Köln"]),
        ("q=pok%C3%B3j", vec!["Łódź centrum"]),
        ("q=universitat", vec!["Zimmer in Graz"]),
        ("q=gross", vec!["Zimmer in Graz"]),
        ("q=metro+centrum", vec![]),
        ("q=metro+or+centrum", vec!["Köln", "Łódź centrum"]),
        ("q=nahe+-hell", vec![]),
        ("q=univ", vec![]),
        ("q=%26%7C%21%28%29%27%3A%2A", vec![]),
    ] {
        assert_eq!(rooms.names(query), found, "{query}");
    }
    assert!(rooms.names(&format!("q={}", "-".repeat(200))).is_empty());
    for query in ["q=", "q=+", "q=a&q=b"] {
        assert_eq!(rooms.get(&format!("/room?{query}")).status, 400, "{query}");
    }
}

#[test]
fn rooms_are_filtered() {
    let rooms = Rooms::start();
    rooms.create(1, &[("provider", json!("a")), ("price", json!(10))]);
    rooms.create(2, &[("provider", json!("b")), ("price", json!(20)), ("recurrency", json!("monthly"))]);
    let area = json!({"name": "Mitte", "city": "Berlin", "country": "Deutschland"});
    rooms.create(3, &[("provider", json!("a")), ("price", json!(30)), ("area", area)]);
    for (query, found) in [
        ("provider=a", vec!["Room 1", "Room 3"]),
        ("recurrency=monthly", vec!["Room 2"]),
        ("area=Mitte", vec!["Room 3"]),
        ("price_from=20", vec!["Room 2", "Room 3"]),
        ("price_from=10&price_to=20&provider=a", vec!["Room 1"]),
        ("provider=c", vec![]),
        ("q=quiet&area=Neubau&price_to=10", vec!["Room 1"]),
    ] {
        assert_eq!(rooms.names(query), found, "{query}");
    }
    let sorted = document(&rooms.get("/room?sort=-price"));
    let sorted: Vec<_> = sorted.as_array().unwrap().iter().map(name).collect();
    assert_eq!(sorted, ["Room 3", "Room 2", "Room 1"]);
    assert_eq!(rooms.get("/room?price_from=x").status, 400);
}

/// Kilometres between two points: the law of cosines for the sphere, unlike the formula of the service.
fn km((lat1, lon1): (f64, f64), (lat2, lon2): (f64, f64)) -> f64 {
    let (lat1, lat2, lon) = (lat1.to_radians(), lat2.to_radians(), (lon2 - lon1).to_radians());
    6_371.0 * (lat1.sin() * lat2.sin() + lat1.cos() * lat2.cos() * lon.cos()).clamp(-1.0, 1.0).acos()
}

#[test]
fn near_a_point_is_what_the_sphere_says() {
    let rooms = Rooms::start();
    // Around Vienna, across the antimeridian and around the poles.
    let mut places: Vec<(f64, f64)> = Vec::new();
    for (lat, lon) in
        [(48.2, 16.37), (-17.0, 179.9), (51.9, -179.8), (89.5, 10.0), (-89.6, -120.0), (0.0, 0.0)]
    {
        for (north, east) in [(0.0, 0.0), (0.03, 0.02), (-0.3, 0.4), (0.1, -0.7), (-0.02, 3.0), (0.01, 179.0)]
        {
            let lon = (lon + east + 540.0_f64).rem_euclid(360.0) - 180.0;
            let rounded = |degrees: f64| (degrees * 1e4).round() / 1e4;
            places.push((rounded(lat + north), rounded(lon)));
        }
    }
    for (number, (lat, lon)) in places.iter().enumerate() {
        rooms.create(number, &[("coordinates", json!({"lat": lat, "lon": lon}))]);
    }
    for centre in &places {
        for within in [1.0, 5.0, 40.0, 100.0, 999.0] {
            let near: BTreeSet<_> = rooms
                .names(&format!("near={},{}&within_km={within}", centre.0, centre.1))
                .into_iter()
                .collect();
            let expected: BTreeSet<_> = (0..places.len())
                .filter(|number| km(*centre, places[*number]) <= within)
                .map(|number| format!("Room {number}"))
                .collect();
            assert_eq!(near, expected, "{within} km around {centre:?}");
        }
    }
    assert_eq!(rooms.names("near=48.2,16.37"), rooms.names("near=48.2,16.37&within_km=5"));
    assert!(rooms.names("near=48.2,16.37&q=nothing").is_empty());
    for query in ["near=48.2", "near=91,0", "near=a,b", "within_km=5", "near=48.2,16.37&within_km=-1"] {
        assert_eq!(rooms.get(&format!("/room?{query}")).status, 400, "{query}");
    }
}

#[test]
fn a_search_near_a_point_reads_only_its_neighbourhood() {
    let rooms = Rooms::start();
    let mut client = rooms.database.client();
    client
        .batch_execute(
            "INSERT INTO rooms (id, name, description, url, provider, price, monthly_price, recurrency, property_size,
                   coordinates, is_visible, images)
               SELECT gen_random_uuid(), 'Room', '', 'http://r/' || n, 'p', 1, 1, 'daily', '1',
                   json_build_object('lat', (n % 180) - 90, 'lon', (n % 359) - 180)::jsonb, true, '[]'
                 FROM generate_series(1, 20000) AS n;
               ANALYZE rooms;",
        )
        .unwrap();
    let plan = "EXPLAIN SELECT id FROM rooms WHERE is_near(latitude, longitude, '48,16', '5') ORDER BY id LIMIT 10000";
    let rows = client.query(plan, &[]).unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("rooms_place") && plan.contains("longitude <="), "{plan}");
}

#[test]
fn a_search_has_pages() {
    let rooms = Rooms::start();
    for number in 0..25 {
        rooms.create(number, &[("provider", json!(if number % 5 == 0 { "other" } else { "rooms.example" }))]);
    }
    let mut target = "/room?q=room&near=48.2,16.37&within_km=7&provider=rooms.example&limit=6".to_owned();
    let mut found = Vec::new();
    loop {
        let response = rooms.get(&target);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        let page = document(&response);
        let page = page.as_array().unwrap();
        assert!((1..=6).contains(&page.len()), "{}", page.len());
        found.extend(page.iter().map(name));
        let Some(link) = response.header("link") else { break };
        link.trim_start_matches('<').split('>').next().unwrap().clone_into(&mut target);
        assert!(target.contains("within_km=7"), "{target}");
    }
    assert_eq!(found.len(), 20);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 20, "each once");
}
