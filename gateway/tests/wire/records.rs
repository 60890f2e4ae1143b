//! What only billing knows: the gateway asks it through the broker, and says so if there is no answer.

use std::thread;
use std::time::{Duration, Instant};

use amqp::{AmqpSettings, Connection, Properties};
use foundation::Environment;
use order::question::{self, ANSWER_SCHEMA, Answer, OrderRecord, Question, StoredOrder};
use serde_json::{Value, json};
use testkit::Broker;

use crate::support::{self, Gateway, eventually};

const QUEUE: &str = "billing_queue";
const STORED_AT: &str = "2026-01-31T12:00:00.000Z";
const DEAD_AT: &str = "2026-01-31T12:30:00.000Z";

fn gateway(broker: &Broker) -> Gateway {
    let settings = broker.settings();
    let variables: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let gateway = Gateway::start("http://127.0.0.1:1", &variables);
    eventually("the broker is connected", || gateway.get("/ready").text().contains(r#""broker":"ok""#));
    gateway
}

fn connect(broker: &Broker) -> Connection {
    let settings = AmqpSettings::read(&Environment::from_pairs(broker.settings())).unwrap();
    Connection::open(&settings, "stand-in").unwrap()
}

/// Stands in for billing, until the test ends; `None` gives no answer.
fn answer_questions(broker: &Broker, answer: impl Fn(Question) -> Option<Answer> + Send + 'static) {
    let connection = connect(broker);
    let queue = question::queue(QUEUE);
    connection.declare_question_queue(&queue).unwrap();
    let mut questions = connection.consume(&queue, 10).unwrap();
    thread::spawn(move || {
        while let Ok(batch) = questions.next_batch(10, Duration::from_secs(1)) {
            for question in batch {
                assert_eq!(question.properties.header("schema").as_deref(), Some(question::SCHEMA));
                if let Some(answer) = answer(serde_json::from_slice(&question.body).unwrap()) {
                    let properties =
                        Properties::transient_json("stand-in").with_header("schema", ANSWER_SCHEMA);
                    connection.answer(&question.properties, properties, serde_json::to_vec(&answer).unwrap());
                }
                connection.ack(question.tag).unwrap();
            }
        }
    });
}

fn body(answer: &support::Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn stored() -> StoredOrder {
    StoredOrder {
        id: 7,
        message_id: Some("m".to_owned()),
        user_id: "3".to_owned(),
        number_of_items: 5,
        total_amount: "180.00".to_owned(),
        stored_at: Some(STORED_AT.to_owned()),
    }
}

#[test]
fn billings_answers_are_passed_on() {
    let broker = Broker::start();
    answer_questions(&broker, |question| {
        Some(match question {
            Question::Summary => Answer::Summary { orders: Some(12) },
            Question::Order { message_id } => Answer::Order(match message_id.as_str() {
                "m" => OrderRecord {
                    stored_at: Some(STORED_AT.to_owned()),
                    order: Some(stored()),
                    ..OrderRecord::default()
                },
                "d" => OrderRecord {
                    dead: Some("why".to_owned()),
                    dead_at: Some(DEAD_AT.to_owned()),
                    ..OrderRecord::default()
                },
                "r" => OrderRecord { requeued: true, ..OrderRecord::default() },
                _ => OrderRecord::default(),
            }),
            Question::Orders { after: 5, limit: 1, before: None, newest: false, user_id: None } => {
                Answer::Orders { orders: vec![stored()], more: true }
            }
            Question::Orders { after: 0, limit: 1, before: Some(9), newest: true, user_id: Some(user) }
                if user == "3" =>
            {
                Answer::Orders { orders: vec![stored()], more: true }
            }
            Question::Requeue { id } if id.starts_with('a') => Answer::Done,
            Question::Discard { id } if id.starts_with('a') => Answer::Done,
            Question::Requeue { .. } | Question::Discard { .. } => Answer::NotFound,
            _ => Answer::DatabaseUnreachable,
        })
    });
    let gateway = gateway(&broker);
    let state = |id: &str| body(&gateway.get(&format!("/api/status/orders/{id}")));
    eventually("billing is asked", || state("m")["state"] == "stored");
    // Nobody has placed these at this gateway, so it does not know when that was.
    let stages = |end: &str, at: &str| json!([{"stage": "placed", "at": null}, {"stage": "confirmed", "at": null}, {"stage": end, "at": at}]);
    let dead =
        json!({"message_id": "d", "state": "dead", "reason": "why", "stages": stages("dead", DEAD_AT)});
    assert_eq!(state("d"), dead);
    assert_eq!((&state("r")["state"], &state("x")["state"]), (&"waiting".into(), &"unknown".into()));
    assert_eq!((&state("m")["stages"], &state("x")["stages"]), (&stages("stored", STORED_AT), &json!([])));

    let mut order = json!({
        "id": 7, "message_id": "m", "user_id": "3", "number_of_items": 5, "total_amount": "180.00"
    });
    let record = body(&gateway.get("/api/orders/m"));
    assert_eq!((&record["order"], &record["stages"]), (&order, &stages("stored", STORED_AT)));
    order["stages"] = stages("stored", STORED_AT);
    assert_eq!(gateway.get("/api/orders/x").status, 404);
    let page = gateway.get("/api/orders?limit=1&after=5");
    assert_eq!(page.field("link"), Some("</api/orders?limit=1&after=7>; rel=\"next\""));
    assert_eq!(body(&page), json!([order]));
    let page = gateway.get("/api/orders?limit=1&order=newest&before=9&user_id=3");
    let next = "</api/orders?limit=1&after=0&before=7&order=newest&user_id=3>; rel=\"next\"";
    assert_eq!((page.field("link"), body(&page)), (Some(next), json!([order])));
    assert_eq!(gateway.get("/api/orders?limit=0").status, 400);
    let unreachable = gateway.get("/api/orders");
    assert_eq!((unreachable.status, unreachable.error().as_str()), (503, "billing_db is not reachable"));

    let status = body(&gateway.get("/api/status"));
    assert_eq!(
        (&status["billing"]["orders_stored"], &status["billing_db"]["state"]),
        (&12.into(), &"ok".into())
    );
    assert!(status["gateway"]["since_s"].as_u64() > Some(1_700_000_000));
    let history = body(&gateway.get("/api/status/history?minutes=60"));
    assert_eq!((&history["step_s"], history["waiting"].is_array()), (&5.into(), true));
    assert_eq!(gateway.get("/api/status/history?minutes=61").status, 400);
    for (id, expected) in [("a".repeat(32), 200), ("b".repeat(32), 404), ("a".repeat(31), 404)] {
        for method in ["POST", "DELETE"] {
            let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
            let request = format!("{method} /api/dead-letters/{id} HTTP/1.1\r\nHost: h\r\n{length}\r\n");
            assert_eq!(gateway.ask(&request).status, expected, "{method} {id}");
        }
    }
}

#[test]
fn the_status_tells_how_the_platform_was_started_if_the_gateway_knows() {
    for (setting, told) in [("script", json!("script")), ("vagrant", json!("vagrant")), ("", Value::Null)] {
        let gateway = Gateway::start("http://127.0.0.1:1", &[("GATEWAY_DEPLOYMENT", setting)]);
        assert_eq!(body(&gateway.get("/api/status"))["gateway"]["deployment"], told);
    }
}

#[test]
fn without_an_answer_the_state_is_unknown_soon_and_a_list_is_refused() {
    let broker = Broker::start();
    let gateway = gateway(&broker);
    let state = || body(&gateway.get("/api/status/orders/m"))["state"].clone();
    // Nobody is there.
    assert_eq!(state(), "unknown");
    assert_eq!(gateway.get("/api/orders").error(), "billing is not reachable");
    let status = body(&gateway.get("/api/status"));
    assert_eq!(status["billing_db"]["state"], "unknown");
    assert_eq!((&status["broker"]["product"], &status["broker"]["consumers"]), (&"broker".into(), &0.into()));
    let why = |status: &Value, words| {
        status["billing"]["cause"].as_str().is_some_and(|cause| cause.contains(words))
    };
    assert!(why(&status, "stopped"), "{status}");
    // A consumer that reports nothing.
    let silent = connect(&broker);
    let _messages = silent.consume(QUEUE, 1).unwrap();
    eventually("billing is stuck", || why(&body(&gateway.get("/api/status")), "stuck"));
    drop(silent);

    // Somebody is there, and says nothing.
    answer_questions(&broker, |_| None);
    let mut slowest = Duration::ZERO;
    let started = Instant::now();
    eventually("an answer is waited for", || {
        let asked = Instant::now();
        assert_eq!(state(), "unknown");
        slowest = slowest.max(asked.elapsed());
        slowest > Duration::from_millis(900)
    });
    assert!(slowest < Duration::from_secs(30), "{slowest:?} of {:?}", started.elapsed());
    // For a second nobody is asked again.
    assert_eq!(gateway.get("/api/orders").status, 503);
}
