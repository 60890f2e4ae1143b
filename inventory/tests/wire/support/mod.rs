//! An inventory-app with a database of its own.
#![allow(unreachable_pub, reason = "the tests are one program")]

use std::net::SocketAddr;

use testkit::http::{self, Connection, Response};
use testkit::{Database, Postgres, Service};

pub struct Inventory {
    pub service: Service,
    pub database: Database,
}

impl Inventory {
    pub fn start() -> Self {
        Self::start_on(Postgres::shared(), &[])
    }

    pub fn start_on(postgres: &Postgres, settings: &[(&str, &str)]) -> Self {
        let mut inventory = Self::stopped_on(postgres, settings);
        inventory.service.start();
        testkit::wait_until(testkit::patience(), "the schema", || inventory.get("/ready").status == 200);
        inventory
    }

    pub fn stopped_on(postgres: &Postgres, settings: &[(&str, &str)]) -> Self {
        let database = postgres.create_database();
        let mut service =
            Service::new(env!("CARGO_BIN_EXE_inventory-app"), database.settings("INVENTORY_DB"));
        service.set("INVENTORY_PORT", "0");
        service.set("LOG_LEVEL", "debug");
        for (name, value) in settings {
            service.set(name, value);
        }
        Self { service, database }
    }

    pub fn addr(&self) -> SocketAddr {
        self.service.addr()
    }

    pub fn get(&self, target: &str) -> Response {
        http::request(self.addr(), "GET", target, None)
    }

    pub fn send(&self, method: &str, target: &str, body: &str) -> Response {
        http::request(self.addr(), method, target, Some(body))
    }

    pub fn delete(&self, target: &str) -> Response {
        http::request(self.addr(), "DELETE", target, None)
    }

    /// A request with header fields of its own.
    pub fn with(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Option<&str>) -> Response {
        Connection::open(self.addr()).unwrap().request(method, target, headers, body).unwrap()
    }

    /// Creates a movie and returns its id.
    pub fn create(&self, title: &str) -> i64 {
        let body = serde_json::json!({ "title": title }).to_string();
        let response = self.send("POST", "/api/movies", &body);
        assert_eq!(response.status, 201, "{}", response.text());
        json(&response)["id"].as_i64().unwrap()
    }

    /// The titles that a list holds, in its order.
    pub fn titles(&self, target: &str) -> Vec<String> {
        let response = self.get(target);
        assert_eq!(response.status, 200, "{}", response.text());
        let movies = json(&response);
        let title = |movie: &serde_json::Value| movie["title"].as_str().unwrap().to_owned();
        movies.as_array().unwrap().iter().map(title).collect()
    }
}

pub fn json(response: &Response) -> serde_json::Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|e| panic!("{e} in {:?}", response.text()))
}
