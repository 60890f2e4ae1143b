//! Error responses: what the client is told, and what the log is told in addition.

use std::borrow::Cow;

use database::Failure;
use edge::{Refusal, Response};
use foundation::codes;
use postgres::error::{DbError, SqlState};

use crate::body::Invalid;
use crate::query::Refused;
use crate::resource::Errors;
use crate::table::Table;
use crate::value::Complaint;

/// An error response: `{"error": "…", "code": "…", "fields": {…}}`, or the other form of [`Errors`].
#[derive(Debug)]
pub(crate) struct Problem {
    pub status: u16,
    /// The stable name of the error, for programs.
    code: Cow<'static, str>,
    /// The text for the client.
    error: String,
    /// The fields that break rules, and which rules.
    fields: Vec<(String, Complaint)>,
    /// An additional header field; boxed because few have one, and results that carry a problem shall be small.
    header: Option<Box<(&'static str, String)>>,
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
    pub(crate) fn new(status: u16, code: impl Into<Cow<'static, str>>, error: impl Into<String>) -> Self {
        Self { status, code: code.into(), error: error.into(), fields: Vec::new(), header: None, cause: None }
    }

    /// Fields that break rules.
    pub(crate) fn of_fields(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        fields: Vec<(String, Complaint)>,
    ) -> Self {
        let sentences: Vec<_> = fields.iter().map(|(name, problem)| format!("{name} {problem}")).collect();
        Self { fields, ..Self::new(status, code, sentences.join(", ")) }
    }

    /// There is no such record.
    pub(crate) fn not_found(table: &Table) -> Self {
        Self::new(404, own_code(table, "not_found"), format!("{} not found", table.capitalised()))
    }

    /// The client's precondition does not hold.
    pub(crate) fn stale(table: &Table) -> Self {
        let error = format!("The {} has changed since you read it", table.resource.name);
        Self::new(412, codes::PRECONDITION_FAILED, error)
    }

    /// Adds a header field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.header = Some(Box::new((name, value.into())));
        self
    }

    /// The problem for a failed job.
    pub(crate) fn of_failure(table: &Table, failure: &Failure) -> Self {
        let name = table.resource.name;
        let problem = match failure {
            Failure::Overloaded | Failure::Unavailable(_) | Failure::TimedOut => {
                let error = format!("The {name} database is not available, please try again");
                let code = match failure {
                    Failure::Overloaded => codes::OVERLOADED,
                    _ => codes::DEPENDENCY_DOWN,
                };
                Self::new(503, code, error).with("retry-after", "1")
            }
            Failure::Unknown(_) => {
                let error = format!("The {name} database did not answer in time, and may have done it");
                Self::new(504, codes::OUTCOME_UNKNOWN, error)
            }
            Failure::Refused(report) => return Self::of_constraint(table, report),
            Failure::Internal(_) => Self::new(500, codes::INTERNAL_ERROR, "Internal server error"),
        };
        Self { cause: Some(failure.to_string()), ..problem }
    }

    /// The problem for values that the database rejects. Checking before the statement would be a race, so the constraint decides.
    fn of_constraint(table: &Table, report: &DbError) -> Self {
        let field = report.constraint().and_then(|constraint| table.field_of_constraint(constraint));
        let own = |problem| Cow::from(own_code(table, problem));
        let (status, code, complaint, error) = match report.code() {
            state if *state == SqlState::UNIQUE_VIOLATION => {
                (409, own("exists"), "is taken already", "exists already")
            }
            state if *state == SqlState::FOREIGN_KEY_VIOLATION && field.is_some() => {
                (400, codes::FIELD_INVALID.into(), "refers to something that does not exist", "")
            }
            state if *state == SqlState::FOREIGN_KEY_VIOLATION => {
                (409, own("in_use"), "", "is referred to by something else")
            }
            state if *state == SqlState::CHECK_VIOLATION => {
                (400, codes::FIELD_INVALID.into(), "is not allowed", "breaks a rule")
            }
            state if *state == SqlState::PROGRAM_LIMIT_EXCEEDED => {
                (400, codes::FIELD_INVALID.into(), "", "has a value that is too long")
            }
            _ => {
                let cause = format!("{} (SQLSTATE {})", report.message(), report.code().code());
                return Self {
                    cause: Some(cause),
                    ..Self::new(500, codes::INTERNAL_ERROR, "Internal server error")
                };
            }
        };
        match field {
            Some(field) => Self::of_fields(status, code, vec![(field.to_owned(), complaint.into())]),
            None => Self::new(status, code, format!("The {} {error}", table.resource.name)),
        }
    }

    /// Sends it in this form.
    pub(crate) fn send(&self, errors: Errors, response: &mut Response<'_>) -> Result<(), Refusal> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        if let Some(header) = &self.header {
            fields.push((header.0, &header.1));
        }
        response.send_json(self.status, &fields, &self.to_json(errors))
    }

    fn to_json(&self, errors: Errors) -> Vec<u8> {
        let mut document = serde_json::Map::new();
        document.insert(errors.member().to_owned(), self.error.as_str().into());
        document.insert("code".to_owned(), self.code.as_ref().into());
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
            Invalid::Malformed(problem) => Self::new(400, codes::BODY_MALFORMED, problem),
            Invalid::Fields(fields) => Self::of_fields(400, codes::FIELD_INVALID, fields),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed(problem) => Self::new(400, codes::REQUEST_MALFORMED, problem),
            Refused::Parameter(name, problem) => {
                Self::of_fields(400, codes::FIELD_INVALID, vec![(name, problem)])
            }
        }
    }
}

/// The code of an error that the resource has for itself, such as `movie_not_found`.
fn own_code(table: &Table, problem: &str) -> String {
    codes::of_resource(table.resource.name, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_fields() {
        let problem = Problem::new(404, codes::PATH_NOT_FOUND, "Not found");
        assert_eq!(problem.to_json(Errors::Plain), br#"{"code":"path_not_found","error":"Not found"}"#);
        assert_eq!(problem.to_json(Errors::Detail), br#"{"code":"path_not_found","detail":"Not found"}"#);
        let fields = vec![("title".to_owned(), "is required".into()), ("a.b".to_owned(), "must be 1".into())];
        assert_eq!(
            String::from_utf8(Problem::of_fields(400, codes::FIELD_INVALID, fields).to_json(Errors::Plain))
                .unwrap(),
            r#"{"code":"field_invalid","error":"title is required, a.b must be 1","fields":{"a.b":"must be 1","title":"is required"}}"#
        );
    }
}
