//! The tasks: their fields and rules, and the history of their table.

use crud::{Application, Field, Operation, Resource};
use database::Migration;

/// A task. `UPDATE /todo/7` means the same as `PUT /todo/7`.
static TASKS: Resource = Resource {
    operations: Operation::SINGLE,
    aliases: &[("UPDATE", Operation::Update)],
    ..Resource::new(
        "/todo",
        ["task", "tasks"],
        "tasks",
        &[
            Field::text("description").length(1..=500).trimmed().required().unique().searchable(),
            Field::word("status", &["active", "waiting", "done"]).required().filterable(),
        ],
    )
};

/// The service.
pub(crate) static TODO: Application = Application {
    name: "todo-app",
    version: env!("CARGO_PKG_VERSION"),
    about: "Tasks: create, read, search, change and delete them.",
    resources: &[&TASKS],
    migrations: &[Migration { version: 1, name: "0001_tasks", sql: include_str!("../sql/0001_tasks.sql") }],
};
