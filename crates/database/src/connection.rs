//! One connection and its prepared statements.

use std::collections::HashMap;

use postgres::{Client, Statement};

/// Most statements that a connection keeps prepared, since each takes memory on both sides. When the limit is reached,
/// all are dropped and prepared again as needed.
const STATEMENTS_MAX: usize = 256;

/// One PostgreSQL connection.
///
/// Dropping it waits for a statement that is still being executed. If the server hangs, the dropping thread hangs with
/// it.
pub struct Connection {
    /// The library's client. Declared before `statements`, so that it is dropped first: the statements then need not be
    /// closed one by one.
    pub client: Client,
    statements: HashMap<String, Statement>,
}

impl Connection {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, statements: HashMap::new() }
    }

    /// The statement for `sql`, prepared on first use. Pass values as parameters, never inside `sql`: every distinct
    /// text is prepared and kept separately.
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

    /// Checks that the server still answers. Takes one round trip.
    pub fn check(&mut self) -> Result<(), postgres::Error> {
        self.client.simple_query("").map(drop)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("statements", &self.statements.len()).finish_non_exhaustive()
    }
}
