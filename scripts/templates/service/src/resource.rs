//! The fields and rules of @MANY@, and the history of their table.

use crud::{Application, Field, Operation, Resource};
use database::Migration;

static RESOURCE: Resource = Resource {
    operations: Operation::SINGLE,
    ..Resource::new(
        "@PATH@",
        ["@ONE@", "@MANY@"],
        "@TABLE@",
        &[
@FIELDS@
        ],
    )
};

/// The service.
pub(crate) static SERVICE: Application = Application {
    name: "@NAME@-app",
    version: env!("CARGO_PKG_VERSION"),
    about: "@ABOUT@",
    resources: &[&RESOURCE],
    migrations: &[Migration {
        version: 1,
        name: "0001_@TABLE@",
        sql: include_str!("../sql/0001_@TABLE@.sql"),
    }],
};
