//! Error responses: what the client is told, and what the log is told in addition.

use database::Failure;
use edge::{Refusal, Response};
use postgres::error::{DbError, SqlState};

use crate::body::Invalid;
use crate::query::Refused;
use crate::resource::Errors;
use crate::table::Table;
use crate::value::Complaint;

/// An error response: `{"error": "…", "fields": {…}}`, or the other form of [`Errors`].
#[derive(Debug)]
pub(crate) struct Problem {
    pub status: u16,
    /// The text for the client.
    error: String,
    /// The fields that break rules, and which rules.
    fields: Vec<(String, Complaint)>,
    /// An additional header field.
    header: Option<(&'static str, String)>,
    /// The cause, for the log only.
    pub cause: Option<String>,
}

/// Why a handler did not answer.
#[derive(Debug)]
pub(crate) enum Unserved {
    /// Answer with this problem.
    Problem(Problem),
    /// Let the edge answer this refusal.
    Refusal(Refusal),
}

impl From<Problem> for Unserved {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Refusal> for Unserved {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl Problem {
    /// An error with a text only.
    pub(crate) fn new(status: u16, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), fields: Vec::new(), header: None, cause: None }
    }

    /// Fields that break rules.
    pub(crate) fn of_fields(status: u16, fields: Vec<(String, Complaint)>) -> Self {
        let sentences: Vec<_> = fields.iter().map(|(name, problem)| format!("{name} {problem}")).collect();
        Self { fields, ..Self::new(status, sentences.join(", ")) }
    }

    /// There is no such record.
    pub(crate) fn not_found(table: &Table) -> Self {
        Self::new(404, format!("{} not found", table.capitalised()))
    }

    /// The client's precondition does not hold.
    pub(crate) fn stale(table: &Table) -> Self {
        Self::new(412, format!("The {} has changed since you read it", table.resource.name))
    }

    /// Adds a header field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    /// The problem for a failed job.
    pub(crate) fn of_failure(table: &Table, failure: &Failure) -> Self {
        let name = table.resource.name;
        let problem = match failure {
            Failure::Overloaded | Failure::Unavailable(_) | Failure::TimedOut => {
                let error = format!("The {name} database is not available, please try again");
                Self::new(503, error).with("retry-after", "1")
            }
            Failure::Unknown(_) => {
                Self::new(504, format!("The {name} database did not answer in time, and may have done it"))
            }
            Failure::Refused(report) => return Self::of_constraint(table, report),
            Failure::Internal(_) => Self::new(500, "Internal server error"),
        };
        Self { cause: Some(failure.to_string()), ..problem }
    }

    /// The problem for values that the database rejects. Checking before the statement would be a race, so the constraint decides.
    fn of_constraint(table: &Table, report: &DbError) -> Self {
        let field = report.constraint().and_then(|constraint| table.field_of_constraint(constraint));
        let (status, complaint, error) = match report.code() {
            code if *code == SqlState::UNIQUE_VIOLATION => (409, "is taken already", "exists already"),
            code if *code == SqlState::FOREIGN_KEY_VIOLATION && field.is_some() => {
                (400, "refers to something that does not exist", "")
            }
            code if *code == SqlState::FOREIGN_KEY_VIOLATION => (409, "", "is referred to by something else"),
            code if *code == SqlState::CHECK_VIOLATION => (400, "is not allowed", "breaks a rule"),
            code if *code == SqlState::PROGRAM_LIMIT_EXCEEDED => (400, "", "has a value that is too long"),
            _ => {
                let cause = format!("{} (SQLSTATE {})", report.message(), report.code().code());
                return Self { cause: Some(cause), ..Self::new(500, "Internal server error") };
            }
        };
        match field {
            Some(field) => Self::of_fields(status, vec![(field.to_owned(), complaint.into())]),
            None => Self::new(status, format!("The {} {error}", table.resource.name)),
        }
    }

    /// Sends it in this form.
    pub(crate) fn send(&self, errors: Errors, response: &mut Response<'_>) -> Result<(), Refusal> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        if let Some((name, value)) = &self.header {
            fields.push((name, value));
        }
        response.send_json(self.status, &fields, &self.to_json(errors))
    }

    fn to_json(&self, errors: Errors) -> Vec<u8> {
        let mut document = serde_json::Map::new();
        document.insert(errors.member().to_owned(), self.error.as_str().into());
        if !self.fields.is_empty() {
            let fields = self.fields.iter().map(|(name, problem)| (name.clone(), problem.as_ref().into()));
            document.insert("fields".to_owned(), serde_json::Value::Object(fields.collect()));
        }
        serde_json::Value::Object(document).to_string().into_bytes()
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Malformed(problem) => Self::new(400, problem),
            Invalid::Fields(fields) => Self::of_fields(400, fields),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed(problem) => Self::new(400, problem),
            Refused::Parameter(name, problem) => Self::of_fields(400, vec![(name, problem)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_fields() {
        let problem = Problem::new(404, "Not found");
        assert_eq!(problem.to_json(Errors::Plain), br#"{"error":"Not found"}"#);
        assert_eq!(problem.to_json(Errors::Detail), br#"{"detail":"Not found"}"#);
        let fields = vec![("title".to_owned(), "is required".into()), ("a.b".to_owned(), "must be 1".into())];
        assert_eq!(
            String::from_utf8(Problem::of_fields(400, fields).to_json(Errors::Plain)).unwrap(),
            r#"{"error":"title is required, a.b must be 1","fields":{"a.b":"must be 1","title":"is required"}}"#
        );
    }
}
