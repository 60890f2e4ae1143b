//! The movies: their fields and rules, and the history of their table.

use crud::{Application, Field, Resource};
use database::Migration;

/// A movie.
pub static MOVIES: Resource = Resource::new(
    "/api/movies",
    ["movie", "movies"],
    "movies",
    &[
        Field::text("title").length(1..=255).trimmed().required().searchable().sortable(),
        Field::text("description").length(0..=10_000).default(""),
    ],
);

/// The service.
pub static INVENTORY: Application = Application {
    name: "inventory-app",
    version: env!("CARGO_PKG_VERSION"),
    about: "Movies: create, read, search, change and delete them.",
    resources: &[&MOVIES],
    migrations: &[
        Migration { version: 1, name: "0001_movies", sql: include_str!("../../sql/movies/0001_movies.sql") },
        Migration {
            version: 2,
            name: "0002_title_index",
            sql: include_str!("../../sql/movies/0002_title_index.sql"),
        },
        Migration {
            version: 3,
            name: "0003_title_order",
            sql: include_str!("../../sql/movies/0003_title_order.sql"),
        },
        Migration {
            version: 4,
            name: "0004_title_pending_list",
            sql: include_str!("../../sql/movies/0004_title_pending_list.sql"),
        },
    ],
};
