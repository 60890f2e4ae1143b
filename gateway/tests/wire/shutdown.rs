//! Starting and stopping.

use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edge::EdgeSettings;

use crate::support::{Gateway, Inventory, LocalGateway, NO_SETTINGS, PATIENCE, eventually, ok};

#[test]
fn an_idle_gateway_stops_at_once() {
    for signal in ["TERM", "INT"] {
        let inventory = Inventory::fixed("[]");
        let mut gateway = Gateway::start(&inventory.url(), &[]);
        let mut idle = gateway.connect();
        assert_eq!(idle.get("/api/movies").status, 200);
        let mut fresh = gateway.connect();
        gateway.signal(signal);
        let (status, took) = gateway.wait();
        assert!(status.success(), "{status}");
        // An idle connection that was waited for would be waited for that long.
        assert!(took < EdgeSettings::default().stop_timeout, "{took:?}");
        idle.assert_closed();
        fresh.assert_closed();
    }
}

#[test]
fn what_runs_is_finished_and_nothing_new_is_taken() {
    let (proceed, wait) = channel();
    let wait = Arc::new(Mutex::new(wait));
    let inventory = Inventory::answering(move |_| {
        wait.lock().unwrap().recv().unwrap();
        ok("[]")
    });
    let mut gateway = Gateway::start(&inventory.url(), &[]);
    let mut client = gateway.connect();
    client.send(b"GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("inventory has the request", || inventory.requests().len() == 1);
    gateway.signal("TERM");
    eventually("the gateway no longer listens", || TcpStream::connect(gateway.addr).is_err());
    proceed.send(()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.status, answer.closes()), (200, true));
    client.assert_closed();
    let (status, _) = gateway.wait();
    assert!(status.success());
}

#[test]
fn a_request_that_does_not_end_holds_the_stop_up_for_a_limited_time() {
    let inventory = Inventory::serving(|_, _| {
        std::thread::sleep(PATIENCE);
        false
    });
    let gateway = LocalGateway::start(&inventory.url(), |settings| {
        settings.edge.stop_timeout = Duration::from_millis(300);
    });
    let mut client = gateway.connect();
    client.send(b"GET /api/movies HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("inventory has the request", || inventory.requests().len() == 1);
    let started = Instant::now();
    gateway.stop();
    let took = started.elapsed();
    assert!((Duration::from_millis(250)..PATIENCE / 2).contains(&took), "{took:?}");
    assert!(LocalGateway::has_logged("stopped with 1 connections still busy"));
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_api-gateway"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(NO_SETTINGS)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_command_line_explains_itself() {
    let (status, text) = run(&["--help"], &[]);
    assert!(status == Some(0) && text.contains("INVENTORY_URL"), "{text}");
    let (status, text) = run(&["--version"], &[]);
    assert!(status == Some(0) && text.starts_with("api-gateway "), "{text}");
    assert_eq!(run(&["--nonsense"], &[]).0, Some(2));
}

#[test]
fn bad_settings_name_themselves_and_nothing_starts() {
    let broker = [("RABBITMQ_USER", "user"), ("RABBITMQ_PASSWORD", "dummy")];
    for (name, value) in [
        ("GATEWAY_PORT", "http"),
        ("GATEWAY_MAX_CONNECTIONS", "0"),
        ("GATEWAY_IDLE_TIMEOUT_MS", "soon"),
        ("INVENTORY_URL", "inventory:8080"),
        ("RABBITMQ_PASSWORD", ""),
    ] {
        let (status, text) = run(&[], &[broker[0], broker[1], (name, value)]);
        assert_eq!(status, Some(1), "{name}: {text}");
        assert!(text.contains(name) && text.lines().count() == 1, "{text}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (status, text) =
        run(&[], &[broker[0], broker[1], ("GATEWAY_PORT", &port), ("GATEWAY_HOST", "127.0.0.1")]);
    assert!(status == Some(1) && text.contains(&format!("listen on 127.0.0.1:{port}")), "{text}");
}

#[test]
fn check_tells_which_dependency_is_missing() {
    let unused = testkit::free_port().to_string();
    let inventory = Inventory::fixed("{}");
    let mut variables = vec![
        ("RABBITMQ_USER", "user"),
        ("RABBITMQ_PASSWORD", "dummy"),
        ("RABBITMQ_PORT", unused.as_str()),
        ("INVENTORY_PORT", unused.as_str()),
    ];
    let (status, text) = run(&["--check"], &variables);
    assert!(status == Some(1) && text.contains("inventory:"), "{text}");
    let url = inventory.url();
    variables.push(("INVENTORY_URL", &url));
    let (status, text) = run(&["--check"], &variables);
    assert!(status == Some(1) && text.contains("broker:"), "{text}");
}
