//! What gateways may ask: single orders, the list and the number of orders, and dead letters.

use std::time::Duration;

use amqp::{Connection, Deliveries, Properties};
use order::question::{self, Answer, DeadLetter, OrderRecord, Question};
use order::report;
use testkit::{Postgres, patience, wait_until};

use crate::{DEAD, QUEUE, Setup, order, publish};

/// Somebody who asks, as a gateway does.
struct Asker {
    connection: Connection,
    answers: Deliveries,
    asked: usize,
}

impl Asker {
    fn new(setup: &Setup) -> Self {
        let connection = setup.connect();
        let answers = connection.listen(&report::exchange(QUEUE)).unwrap();
        Self { connection, answers, asked: 0 }
    }

    #[track_caller]
    fn ask(&mut self, question: &Question) -> Answer {
        self.asked += 1;
        let id = format!("question {}", self.asked);
        let body = serde_json::to_vec(question).unwrap();
        wait_until(patience(), "somebody answers questions", || {
            let properties = Properties::transient_json("by-hand").with_question(
                &id,
                self.answers.queue(),
                Duration::from_secs(60),
            );
            self.connection.publish(&question::queue(QUEUE), properties, body.clone(), patience()).is_ok()
        });
        let mut answer = None;
        wait_until(patience(), "the answer arrives", || {
            let arrived = self.answers.next_batch(100, Duration::from_millis(50)).unwrap();
            let mut answers =
                arrived.iter().filter(|delivery| delivery.properties.correlation_id() == Some(&id));
            answer = answers.next().map(|delivery| serde_json::from_slice(&delivery.body).unwrap());
            answer.is_some()
        });
        answer.unwrap()
    }

    fn record(&mut self, message_id: &str) -> OrderRecord {
        match self.ask(&Question::Order { message_id: message_id.to_owned() }) {
            Answer::Order(record) => record,
            other => panic!("{other:?}"),
        }
    }

    fn dead_letters(&mut self) -> Vec<DeadLetter> {
        match self.ask(&Question::DeadLetters { limit: 100 }) {
            Answer::DeadLetters { letters } => letters,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_has_become_of_an_order_is_known_by_its_message_id_after_a_restart_too() {
    let mut setup = Setup::start_on(Postgres::shared());
    let mut asker = Asker::new(&setup);
    publish(&asker.connection, "stored", &order(7));
    publish(&asker.connection, "dead", b"no order");
    publish(&asker.connection, "both", &order(8));
    publish(&asker.connection, "both", &order(9));
    setup.wait_for_orders(2);
    for _ in 0..2 {
        wait_until(patience(), "the last one is dead", || asker.record("both").dead.is_some());
        let stored = asker.record("stored");
        let order = stored.order.unwrap();
        assert_eq!((order.user_id.as_str(), order.total_amount.as_str()), ("7", "1.00"));
        assert_eq!(order.message_id.as_deref(), Some("stored"));
        let stored_at = stored.stored_at.unwrap();
        assert!(stored_at.ends_with('Z'));
        assert_eq!((order.stored_at, stored.dead, stored.dead_at), (Some(stored_at.clone()), None, None));
        let dead = asker.record("dead");
        assert!(dead.stored_at.is_none() && dead.dead.unwrap().contains("JSON"));
        let dead_at = dead.dead_at.unwrap();
        assert!(dead_at.ends_with('Z') && dead_at.len() == stored_at.len(), "{dead_at}");
        let both = asker.record("both");
        assert_eq!(both.order.unwrap().user_id, "8");
        assert!(both.dead.unwrap().contains("used before"));
        assert_eq!(asker.record("neither"), OrderRecord::default());
        assert_eq!(asker.record("nor \0"), OrderRecord::default());
        setup.billing.restart();
    }
}

#[test]
fn orders_are_listed_and_counted_whoever_stored_them() {
    let setup = Setup::start_on(Postgres::shared());
    let mut asker = Asker::new(&setup);
    for number in 1..=3 {
        publish(&asker.connection, &format!("order {number}"), &order(number));
    }
    setup.wait_for_orders(3);
    let by_hand = "INSERT INTO orders (user_id, number_of_items, total_amount) VALUES ('by hand', 1, 2.5)";
    setup.database.client().execute(by_hand, &[]).unwrap();
    assert_eq!(asker.ask(&Question::Summary), Answer::Summary { orders: Some(4) });

    let mut found = Vec::new();
    let (mut after, mut pages) = (0, 0);
    loop {
        let question = Question::Orders { after, limit: 2, before: None, newest: false, user_id: None };
        let Answer::Orders { orders, more } = asker.ask(&question) else { panic!("no list") };
        after = orders.last().unwrap().id;
        // Who stored an order by hand has not said when.
        assert!(
            orders.iter().all(|order| order.stored_at.is_some() == order.message_id.is_some()),
            "{orders:?}"
        );
        found.extend(orders.into_iter().map(|order| (order.user_id, order.message_id, order.total_amount)));
        pages += 1;
        if !more {
            break;
        }
    }
    let expected = [
        ("1", Some("order 1"), "1.00"),
        ("2", Some("order 2"), "1.00"),
        ("3", Some("order 3"), "1.00"),
        ("by hand", None, "2.50"),
    ];
    let expected =
        expected.map(|(user, id, amount)| (user.to_owned(), id.map(str::to_owned), amount.to_owned()));
    assert_eq!((found, pages), (expected.to_vec(), 2));

    let mut newest = |before, user_id: Option<&str>| {
        let user_id = user_id.map(str::to_owned);
        let question = Question::Orders { after: 0, limit: 2, before: Some(before), newest: true, user_id };
        match asker.ask(&question) {
            Answer::Orders { orders, more } => {
                let orders = orders.into_iter();
                let orders =
                    orders.inspect(|order| assert_eq!(order.stored_at.is_some(), order.message_id.is_some()));
                let orders = orders.map(|order| (order.user_id, order.message_id));
                (orders.collect::<Vec<_>>(), more)
            }
            other => panic!("{other:?}"),
        }
    };
    let order = |user: &str, id: Option<&str>| (user.to_owned(), id.map(str::to_owned));
    let (third, by_hand) = (order("3", Some("order 3")), order("by hand", None));
    assert_eq!(newest(i64::MAX, None), (vec![by_hand.clone(), third.clone()], true));
    assert_eq!(newest(4, Some("3")), (vec![third], false));
    assert_eq!(newest(i64::MAX, Some("by hand")), (vec![by_hand], false));
    for nobody in ["4", "\0"] {
        assert_eq!(newest(i64::MAX, Some(nobody)), (Vec::new(), false));
    }
}

#[test]
fn dead_letters_are_listed_sent_back_and_discarded_one_by_one() {
    let setup = Setup::start_on(Postgres::shared());
    let mut asker = Asker::new(&setup);
    let unknown = "0".repeat(32);
    assert_eq!(asker.ask(&Question::Discard { id: unknown.clone() }), Answer::NotFound);
    assert_eq!(asker.ask(&Question::Requeue { id: unknown }), Answer::NotFound);
    assert_eq!(asker.dead_letters(), []);

    publish(&asker.connection, "bad", b"no order");
    // This one is an order, and was put there by hand.
    let properties = Properties::persistent_json("by-hand", "good");
    asker.connection.publish(DEAD, properties, order(5), patience()).unwrap();
    wait_until(patience(), "both are there", || asker.dead_letters().len() == 2);
    let letters = asker.dead_letters();
    let find = |id: &str| letters.iter().find(|letter| letter.message_id.as_deref() == Some(id)).unwrap();
    let (bad, good) = (find("bad"), find("good"));
    assert_eq!((bad.body.as_str(), bad.body_bytes), ("no order", 8));
    assert!(bad.reason.as_ref().unwrap().contains("JSON") && bad.sent_s.is_some(), "{bad:?}");
    assert_eq!(good.reason, None);

    assert_eq!(asker.ask(&Question::Requeue { id: good.id.clone() }), Answer::Done);
    setup.wait_for_orders(1);
    assert_eq!(asker.record("good").order.unwrap().user_id, "5");
    // It can never be an order, so it comes back.
    assert_eq!(asker.ask(&Question::Requeue { id: bad.id.clone() }), Answer::Done);
    wait_until(patience(), "it is dead again", || asker.dead_letters().len() == 1);
    let record = asker.record("bad");
    assert!(record.dead.is_some() && !record.requeued, "{record:?}");

    assert_eq!(asker.ask(&Question::Discard { id: bad.id.clone() }), Answer::Done);
    assert_eq!(asker.dead_letters(), []);
    assert!(asker.record("bad").dead.is_some());
    assert_eq!(asker.connection.declare_queue(QUEUE).unwrap(), 0);
}

#[test]
fn a_database_that_is_away_is_told_apart_from_an_order_that_is_not_there() {
    let postgres = Postgres::start();
    let setup = Setup::start_on(&postgres);
    let mut asker = Asker::new(&setup);
    assert_eq!(asker.record("x"), OrderRecord::default());
    postgres.stop();
    let question = Question::Order { message_id: "x".to_owned() };
    wait_until(patience(), "the database is missed", || asker.ask(&question) == Answer::DatabaseUnreachable);
    assert_eq!(asker.ask(&Question::Summary), Answer::DatabaseUnreachable);
    postgres.start_again();
    wait_until(patience(), "the database is back", || asker.ask(&question) != Answer::DatabaseUnreachable);
    assert_eq!(asker.ask(&Question::Summary), Answer::Summary { orders: Some(0) });
}
