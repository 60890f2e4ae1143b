//! One connection and its prepared statements.

use std::collections::HashMap;

use postgres::{Client, Statement};

/// Most statements that a connection keeps prepared; both sides hold memory for each. A program that uses more
/// prepares some of them again.
const STATEMENTS_MAX: usize = 256;

/// One PostgreSQL connection.
///
/// Dropping it waits for a statement that is still being executed, so a connection whose server hangs is dropped
/// only by a thread that may hang with it.
pub struct Connection {
    /// The library's client. It is dropped before the statements, which then need no message of their own each.
    pub client: Client,
    statements: HashMap<String, Statement>,
}

impl Connection {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, statements: HashMap::new() }
    }

    /// The statement for `sql`, prepared when it is first asked for. Values belong into parameters, never into
    /// `sql`: every different text is a statement of its own.
    pub fn prepared(&mut self, sql: &str) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Makes sure that the server still answers. Takes a round trip.
    pub fn check(&mut self) -> Result<(), postgres::Error> {
        self.client.simple_query("").map(drop)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("statements", &self.statements.len()).finish_non_exhaustive()
    }
}
