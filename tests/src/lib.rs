//! Nothing lives here: the system tests are under `tests/`, and what they share is the crate `testkit`.
