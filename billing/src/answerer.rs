//! Answers the gateways' questions about orders and dead letters, on a thread of its own with its own connections to the
//! broker and the database, so that no question delays an order.

use std::time::{Duration, Instant};

use amqp::{Connection, Deliveries, Delivery, Properties};
use foundation::{Backoff, Shutdown};
use order::question::{self, ANSWER_SCHEMA, Answer, LIMIT_MAX, OrderRecord, Question};

use crate::dead_letter_queue;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::order_count::OrderCount;
use crate::repository::{Repository, Wanted};
use crate::settings::Settings;

/// Most questions that are answered together.
const BATCH: u16 = 64;
/// How often the stop flag is checked while nobody asks.
const TICK: Duration = Duration::from_millis(200);
/// Interval for redeclaring the queue while nobody asks, to detect half-open connections.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// The connection to the database is closed when nobody has asked for this long: an idle one takes memory there.
const DATABASE_IDLE: Duration = Duration::from_secs(30);
const APP_ID: &str = "billing-app";

/// Answers until the process is told to stop.
pub(crate) fn run(settings: &Settings, shutdown: &Shutdown, metrics: &Metrics) {
    let mut answerer = Answerer {
        settings,
        shutdown,
        metrics,
        repository: Repository::new(settings.database.clone()),
        order_count: OrderCount::new(),
        is_counting: false,
        backoff: Backoff::new(Duration::from_millis(100), settings.retry_max),
    };
    let mut reported = String::new();
    while !shutdown.requested() {
        let Err(error) = answerer.serve(&mut reported) else { continue };
        // Log each reason once, not each attempt.
        let cause = error.to_string();
        if cause != reported {
            log::warn!("questions cannot be answered: {cause}; trying again");
            reported = cause;
        }
        shutdown.wait_timeout(answerer.backoff.next_delay());
    }
}

struct Answerer<'a> {
    settings: &'a Settings,
    shutdown: &'a Shutdown,
    metrics: &'a Metrics,
    repository: Repository,
    order_count: OrderCount,
    /// Whether somebody wants to know the number of orders, and not all are counted yet.
    is_counting: bool,
    /// Only a connection that lasts, or is of use, resets it.
    backoff: Backoff,
}

impl Answerer<'_> {
    /// Runs one session with the broker.
    fn serve(&mut self, reported: &mut String) -> Result<(), Error> {
        let queue = question::queue(&self.settings.queue);
        let connection = Connection::open(&self.settings.broker, "billing-app questions")?;
        connection.declare_question_queue(&queue)?;
        let mut deliveries = connection.consume(&queue, BATCH)?;
        log::info!("answering questions from {queue}");
        reported.clear();
        let mut asked_at = Instant::now();
        let mut probed_at = asked_at;
        while !self.shutdown.requested() {
            let questions = self.next_questions(&mut deliveries)?;
            if let Some(last) = questions.last() {
                let last = last.tag;
                self.answer_all(&connection, &questions);
                connection.ack_through(last)?;
                asked_at = Instant::now();
                probed_at = asked_at;
                self.backoff.reset();
            } else if probed_at.elapsed() >= PROBE_INTERVAL {
                connection.declare_question_queue(&queue)?;
                probed_at = Instant::now();
                self.backoff.reset();
            }
            if asked_at.elapsed() >= DATABASE_IDLE {
                self.repository.disconnect();
            }
        }
        Ok(())
    }

    /// The next questions. Counts orders until they come.
    fn next_questions(&mut self, deliveries: &mut Deliveries) -> Result<Vec<Delivery>, Error> {
        let patience = if self.is_counting { Duration::ZERO } else { TICK };
        let questions = deliveries.next_batch(usize::from(BATCH), patience)?;
        if self.is_counting && questions.is_empty() {
            // The next question will show what has failed.
            self.is_counting = self.order_count.step(&mut self.repository).unwrap_or(false);
        }
        Ok(questions)
    }

    fn answer_all(&mut self, connection: &Connection, deliveries: &[Delivery]) {
        let questions: Vec<Option<Question>> =
            deliveries.iter().map(|delivery| serde_json::from_slice(&delivery.body).ok()).collect();
        let ids: Vec<_> = questions
            .iter()
            .filter_map(|question| match question {
                Some(Question::Order { message_id }) => Some(message_id.as_str()),
                _ => None,
            })
            .collect();
        let mut records = (!ids.is_empty()).then(|| self.repository.order_records(&ids));
        for (delivery, question) in deliveries.iter().zip(&questions) {
            let answer = match (question, &mut records) {
                (Some(Question::Order { message_id }), Some(Ok(records))) => {
                    Ok(Answer::Order(records.get(message_id).cloned().unwrap_or_default()))
                }
                (Some(Question::Order { .. }), Some(Err(error))) => Ok(failure(error)),
                (Some(question), _) => self.answer(connection, question),
                (None, _) => Ok(Answer::Failed),
            };
            let answer = answer.unwrap_or_else(|error| failure(&error));
            // An answer has only texts and numbers, which always serialise.
            let body = serde_json::to_vec(&answer).unwrap_or_default();
            let properties = Properties::transient_json(APP_ID).with_header("schema", ANSWER_SCHEMA);
            connection.answer(&delivery.properties, properties, body);
            self.metrics.questions.increment();
        }
    }

    fn answer(&mut self, connection: &Connection, question: &Question) -> Result<Answer, Error> {
        let (settings, repository) = (self.settings, &mut self.repository);
        match question {
            Question::Summary => {
                let orders = self.order_count.total(repository)?;
                // Also when the number is known: what is old enough is counted for good.
                self.is_counting = true;
                Ok(Answer::Summary { orders })
            }
            // Answered together; this is for completeness.
            Question::Order { message_id } => {
                let mut records = repository.order_records(&[message_id])?;
                Ok(Answer::Order(records.remove(message_id).unwrap_or_else(OrderRecord::default)))
            }
            Question::Orders { after, limit, before, newest, user_id } => {
                let limit = usize::try_from((*limit).min(LIMIT_MAX)).unwrap_or(usize::MAX);
                let most = i64::try_from(limit + 1).unwrap_or(i64::MAX);
                let mut orders = repository.orders(&Wanted {
                    after: *after,
                    before: before.unwrap_or(i64::MAX),
                    // No order has a customer with such a name, and PostgreSQL would refuse the statement.
                    user_id: user_id.as_deref().map(|id| if id.contains('\0') { "" } else { id }),
                    newest: *newest,
                    limit: most,
                })?;
                let more = orders.len() > limit;
                orders.truncate(limit);
                Ok(Answer::Orders { orders, more })
            }
            Question::DeadLetters { limit } => dead_letter_queue::list(connection, settings, *limit),
            Question::Requeue { id } => dead_letter_queue::requeue(connection, settings, repository, id),
            Question::Discard { id } => dead_letter_queue::discard(connection, settings, id),
        }
    }
}

/// What is answered after a failure, which is logged here.
fn failure(error: &Error) -> Answer {
    if let Error::Database(_) = error {
        log::debug!("a question cannot be answered: {error}");
        return Answer::DatabaseUnreachable;
    }
    log::warn!("a question cannot be answered: {error}");
    Answer::Failed
}
