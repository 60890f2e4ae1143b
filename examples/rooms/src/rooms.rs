//! The rooms: their fields and rules, how they are searched, their events, and the history of their table.

use crud::{Application, Field, Key, Operation, Parameter, Refinement, Resource};
use database::Migration;

use crate::search;

/// The topic exchange that the events are published to.
pub const EXCHANGE: &str = "rooms";

const COORDINATES: &[Field] = &[
    Field::decimal("lat", 9, 6).range(-90..=90).required().about("Degrees north of the equator."),
    Field::decimal("lon", 9, 6).range(-180..=180).required().about("Degrees east of Greenwich."),
];

const AREA: &[Field] = &[
    keyword("name").required(),
    keyword("country").required(),
    keyword("city").required(),
    keyword("id"),
    Field::object("coordinates", COORDINATES),
];

const IMAGE: Field = Field::object("image", &[Field::url("url").required()]);

/// A room to let.
pub static ROOMS: Resource = Resource {
    key: Key::uuid("id"),
    operations: Operation::SINGLE,
    emits: &["room.created.1", "room.updated.1", "room.deleted.1"],
    exchange: EXCHANGE,
    parameters: &[
        Parameter {
            name: "q",
            condition: "words @@ websearch_to_tsquery('rooms', $)",
            read: search::words,
            about: "Words in the name or the description, with or without their accents; -word leaves out.",
            refined_by: None,
        },
        Parameter {
            name: "area",
            condition: "area ->> 'name' = $",
            read: search::keyword,
            about: "Only those in the area of this name.",
            refined_by: None,
        },
        Parameter {
            name: "near",
            condition: "is_near(latitude, longitude, $, $within_km)",
            read: search::place,
            about: "Only those near this point: LATITUDE,LONGITUDE in degrees, such as 48.2,16.37.",
            refined_by: Some(Refinement {
                name: "within_km",
                default: "5",
                read: search::distance,
                about: "How far from the point, in kilometres: up to 1000; 5 if it is left out.",
            }),
        },
    ],
    ..Resource::new(
        "/room",
        ["room", "rooms"],
        "rooms",
        &[
            Field::text("name").length(1..=255).trimmed().required(),
            Field::text("description").length(0..=10_000).required(),
            Field::url("url").required().unique().about("Where it was found; no two rooms have the same."),
            keyword("provider").required().filterable(),
            Field::integer("price").range(0..=PRICE_MAX).required().filterable().sortable(),
            Field::integer("monthly_price").range(0..=PRICE_MAX).required(),
            keyword("recurrency")
                .required()
                .filterable()
                .about("For which period the price is: daily, monthly."),
            keyword("property_size").required(),
            Field::object("coordinates", COORDINATES).required(),
            Field::object("area", AREA),
            Field::boolean("is_visible").default("true"),
            Field::array("images", &IMAGE, 100).default("[]"),
        ],
    )
};

/// The largest value of the columns' type.
const PRICE_MAX: i64 = 2_147_483_647;

/// A short text that is compared as a whole.
const fn keyword(name: &'static str) -> Field {
    Field::text(name).length(1..=100).trimmed()
}

/// The part of the service that answers HTTP.
pub static SERVICE: Application = Application {
    name: "rooms-app",
    version: env!("CARGO_PKG_VERSION"),
    about: "Rooms to let: index, read, search, change and delete them.",
    resources: &[&ROOMS],
    migrations: &[
        Migration { version: 1, name: "0001_rooms", sql: include_str!("../sql/0001_rooms.sql") },
        Migration {
            version: 2,
            name: "0002_outbox",
            sql: include_str!("../../../sql/events/0001_outbox.sql"),
        },
        Migration {
            version: 3,
            name: "0003_provider_price",
            sql: include_str!("../sql/0003_provider_price.sql"),
        },
        Migration {
            version: 4,
            name: "0004_words_pending_list",
            sql: include_str!("../sql/0004_words_pending_list.sql"),
        },
    ],
};
