//! Questions to billing, which go through the broker, and the answers, which the publisher's thread receives.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use amqp::{Connection, Properties, PublishError};
use order::APP_ID;
use order::question::{self, Answer, Question};

/// Most questions that may wait for their answers.
const WAITING_MAX: usize = 64;
/// For how long nobody is asked after a question was not answered, so that neither clients nor questions pile up while
/// billing stands still.
const QUIET: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Billing has not got the question.
    NotAsked(String),
    /// It may have got it.
    TimedOut(String),
}

/// The questions that wait for their answers.
#[derive(Default)]
pub(crate) struct Questions(Mutex<State>);

#[derive(Default)]
struct State {
    /// The queue for answers, while the gateway listens there.
    reply_to: Option<String>,
    waiting: HashMap<String, SyncSender<Vec<u8>>>,
    quiet_until: Option<Instant>,
}

impl Questions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets where answers arrive; `None` if nobody listens.
    pub(crate) fn set_reply_to(&self, queue: Option<String>) {
        let mut state = self.state();
        // Dropping their channels tells those who wait that no answer will come.
        state.waiting.clear();
        state.quiet_until = None;
        state.reply_to = queue;
    }

    /// An answer has arrived, even if nobody waits for it any more: billing answers again.
    pub(crate) fn settle(&self, id: &str, answer: Vec<u8>) {
        let mut state = self.state();
        state.quiet_until = None;
        let waiting = state.waiting.remove(id);
        drop(state);
        if let Some(waiting) = waiting {
            // Whoever asked may have given up.
            let _ = waiting.try_send(answer);
        }
    }

    pub(crate) fn ask(
        &self,
        connection: &Connection,
        orders_queue: &str,
        question: &Question,
        timeout: Duration,
    ) -> Result<Answer, Unanswered> {
        let deadline = Instant::now() + timeout;
        let id = uuid::Uuid::new_v4().to_string();
        let (sender, answer) = sync_channel(1);
        let reply_to = self.begin(&id, sender)?;
        let properties = Properties::transient_json(APP_ID)
            .with_header("schema", question::SCHEMA)
            .with_question(&id, &reply_to, timeout);
        // A question has only texts and numbers, which always serialise.
        let body = serde_json::to_vec(question).unwrap_or_default();
        let asked = connection.publish(&question::queue(orders_queue), properties, body, timeout);
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = match asked {
            Ok(()) => answer.recv_timeout(left),
            Err(error) => {
                self.state().waiting.remove(&id);
                return Err(self.not_asked(error));
            }
        };
        self.state().waiting.remove(&id);
        match answer {
            Ok(answer) => serde_json::from_slice(&answer)
                .map_err(|error| Unanswered::TimedOut(format!("an answer that cannot be read: {error}"))),
            Err(RecvTimeoutError::Timeout) => Err(self.timed_out()),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Unanswered::TimedOut("the connection to the broker ended".to_owned()))
            }
        }
    }

    /// Notes that an answer to `id` is waited for; returns where it shall go.
    fn begin(&self, id: &str, answer: SyncSender<Vec<u8>>) -> Result<String, Unanswered> {
        let not_asked = |cause: &str| Err(Unanswered::NotAsked(cause.to_owned()));
        let mut state = self.state();
        let Some(reply_to) = state.reply_to.clone() else {
            return not_asked("answers cannot be received");
        };
        if state.quiet_until.is_some_and(|until| Instant::now() < until) {
            return not_asked("billing has not answered the last question");
        }
        if state.waiting.len() >= WAITING_MAX {
            return not_asked("too many questions wait for an answer");
        }
        state.waiting.insert(id.to_owned(), answer);
        Ok(reply_to)
    }

    fn not_asked(&self, error: PublishError) -> Unanswered {
        match error {
            // No queue: nobody answers.
            PublishError::Returned(_) => Unanswered::NotAsked("billing is not connected".to_owned()),
            PublishError::TimedOut => self.timed_out(),
            PublishError::Closed(_) => Unanswered::TimedOut(error.to_string()),
            error => Unanswered::NotAsked(error.to_string()),
        }
    }

    fn timed_out(&self) -> Unanswered {
        self.state().quiet_until = Some(Instant::now() + QUIET);
        Unanswered::TimedOut("billing did not answer in time".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_silence_nobody_is_asked_until_any_answer_arrives() {
        let questions = Questions::default();
        questions.set_reply_to(Some("answers".to_owned()));
        let begin = |id: &str| {
            let (sender, answer) = sync_channel(1);
            questions.begin(id, sender).map(|_| answer)
        };
        let early = begin("early").unwrap();
        questions.timed_out();
        assert!(matches!(begin("late"), Err(Unanswered::NotAsked(_))));
        questions.settle("early", b"yes".to_vec());
        assert_eq!(early.recv(), Ok(b"yes".to_vec()));
        assert!(begin("late").is_ok());
        questions.timed_out();
        questions.settle("of somebody who has given up", Vec::new());
        assert!(begin("later").is_ok());
    }
}
