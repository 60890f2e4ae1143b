//! Finds the operation for a path and a method. Only this file knows paths and methods.

use crate::resource::{Action, Errors, Operation};
use crate::table::Table;
use crate::value;

/// The paths that every service has. Their labels come first, in this order.
const OWN: [&str; 3] = ["/health", "/ready", "/openapi.json"];
const OWN_METHODS: &str = "GET, HEAD, OPTIONS";

/// The routes of a service.
pub(crate) struct Routes {
    /// The labels of the routes in metrics: templates such as `/api/movies/{id}`, never what a client sent.
    pub labels: &'static [&'static str],
    /// The label index of unknown paths.
    pub other: usize,
    tables: Vec<TableRoutes>,
}

/// The routes of one table.
struct TableRoutes {
    path: &'static str,
    /// The label indexes of its routes.
    collection: usize,
    record: usize,
    collection_methods: Methods,
    record_methods: Methods,
    /// The routes of its actions, in the order of their labels, which follow that of a record.
    actions: Vec<ActionRoute>,
}

struct ActionRoute {
    label: usize,
    has_key: bool,
    segment: &'static str,
    actions: Vec<&'static Action>,
    allow: String,
}

/// The methods of a path, each with its operation.
struct Methods {
    known: Vec<(&'static str, Operation)>,
    /// The value of `Allow`.
    allow: String,
}

/// The route of a request.
pub(crate) struct RouteMatch<'r> {
    /// The label index.
    pub label: usize,
    pub meaning: Meaning<'r>,
}

/// What a request asks for.
pub(crate) enum Meaning<'r> {
    /// An operation on a table, or on its record with this key.
    Operation {
        table: usize,
        operation: Operation,
        key: Option<String>,
    },
    /// An action of the resource.
    Action {
        table: usize,
        action: &'static Action,
        key: Option<String>,
    },
    Health,
    Ready,
    OpenApi,
    /// The method is OPTIONS; the path has these methods.
    Options(&'r str),
    /// The path does not have this method; it has these.
    NoMethod(&'r str),
    /// The key in the path is invalid; the text says why.
    NoKey(String),
    /// There is no such path.
    Unknown,
}

impl Routes {
    /// The routes of these tables.
    pub(crate) fn new(tables: &[Table]) -> Self {
        let mut labels: Vec<String> = OWN.iter().map(|path| (*path).to_owned()).collect();
        let tables = tables.iter().map(|table| TableRoutes::new(table, &mut labels)).collect();
        labels.push("other".to_owned());
        // Metrics need labels that live as long as the process, as the routes do.
        let labels: Vec<&'static str> = labels.into_iter().map(|label| &*label.leak()).collect();
        Self { other: labels.len() - 1, labels: labels.leak(), tables }
    }

    /// Finds the route of a request. `path` is decoded and has no trailing slash.
    pub(crate) fn find<'r>(&'r self, tables: &[Table], method: &str, path: &str) -> RouteMatch<'r> {
        if let Some(label) = OWN.iter().position(|own| *own == path) {
            return RouteMatch { label, meaning: own(label, method) };
        }
        let mut candidates = self.tables.iter().enumerate();
        if let Some((index, routes)) = candidates.clone().find(|(_, routes)| routes.path == path) {
            let meaning = routes.collection_methods.find(method, index, None);
            return RouteMatch { label: routes.collection, meaning };
        }
        let below =
            |routes: &TableRoutes| Some(path.strip_prefix(routes.path)?.strip_prefix('/')?.to_owned());
        let found = candidates
            .find_map(|(index, routes)| routes.find_below(&tables[index], index, method, &below(routes)?));
        found.unwrap_or(RouteMatch { label: self.other, meaning: Meaning::Unknown })
    }

    /// The form of errors at the route with this label.
    pub(crate) fn errors(&self, tables: &[Table], label: usize) -> Errors {
        let mut routes = self.tables.iter().zip(tables).rev();
        // The labels of a table follow each other, and `other` is behind all of them.
        match routes.find(|(routes, _)| routes.collection <= label && label < self.other) {
            Some((_, table)) => table.resource.errors,
            None => Errors::Plain,
        }
    }

    /// All routes with their methods, for people.
    pub(crate) fn describe(&self) -> Vec<(&str, &str)> {
        let mut routes = Vec::new();
        for table in &self.tables {
            routes.push((self.labels[table.collection], table.collection_methods.allow.as_str()));
            if !table.record_methods.known.is_empty() {
                routes.push((self.labels[table.record], table.record_methods.allow.as_str()));
            }
            let actions = table.actions.iter();
            routes.extend(actions.map(|action| (self.labels[action.label], action.allow.as_str())));
        }
        routes.extend(OWN.iter().map(|path| (*path, OWN_METHODS)));
        routes
    }
}

impl TableRoutes {
    fn new(table: &Table, labels: &mut Vec<String>) -> Self {
        let resource = table.resource;
        let collection = labels.len();
        labels.push(resource.path.to_owned());
        labels.push(format!("{}/{{{}}}", resource.path, resource.key.field.name));
        let mut actions: Vec<ActionRoute> = Vec::new();
        for action in resource.actions {
            let is_here = |route: &&mut ActionRoute| {
                (route.has_key, route.segment) == (action.has_key(), action.segment())
            };
            if let Some(route) = actions.iter_mut().find(is_here) {
                route.actions.push(action);
            } else {
                let (has_key, segment) = (action.has_key(), action.segment());
                actions.push(ActionRoute {
                    label: labels.len(),
                    has_key,
                    segment,
                    actions: vec![action],
                    allow: String::new(),
                });
                labels.push(format!("{}{}", resource.path, action.path));
            }
        }
        for route in &mut actions {
            route.allow = allow(route.actions.iter().map(|action| action.method));
        }
        let aliased = |operations: &[Operation]| {
            let aliases = resource.aliases.iter().filter(|(_, operation)| operations.contains(operation));
            aliases.copied().collect::<Vec<_>>()
        };
        Self {
            path: resource.path,
            collection,
            record: collection + 1,
            collection_methods: Methods::new(
                table,
                [("GET", Operation::List), ("POST", Operation::Create), ("DELETE", Operation::DeleteAll)]
                    .into_iter()
                    .chain(aliased(&[Operation::List, Operation::Create, Operation::DeleteAll])),
            ),
            record_methods: Methods::new(
                table,
                [
                    ("GET", Operation::Read),
                    ("PUT", Operation::Update),
                    ("PATCH", Operation::Update),
                    ("DELETE", Operation::Delete),
                ]
                .into_iter()
                .chain(aliased(&[Operation::Read, Operation::Update, Operation::Delete])),
            ),
            actions,
        }
    }

    /// Finds a route below the collection's path; `rest` is `7`, `random` or `7/like`.
    fn find_below<'r>(
        &'r self,
        table: &Table,
        index: usize,
        method: &str,
        rest: &str,
    ) -> Option<RouteMatch<'r>> {
        let (key, segment) = match rest.split_once('/') {
            Some((key, segment)) => (Some(key), segment),
            None => (None, rest),
        };
        let is_meant = |route: &&ActionRoute| route.has_key == key.is_some() && route.segment == segment;
        let action = self.actions.iter().find(is_meant);
        // An action takes precedence over a key of the same spelling.
        let (label, key) = match (action, key) {
            (Some(route), key) => (route.label, key),
            (None, None) if !self.record_methods.known.is_empty() => (self.record, Some(segment)),
            (None, _) => return None,
        };
        let key = match key.map(|key| read_key(table, key)).transpose() {
            Ok(key) => key,
            Err(problem) => return Some(RouteMatch { label, meaning: Meaning::NoKey(problem) }),
        };
        let meaning = match action {
            Some(route) => route.find(method, index, key),
            None => self.record_methods.find(method, index, key),
        };
        Some(RouteMatch { label, meaning })
    }
}

impl Methods {
    fn new(table: &Table, known: impl Iterator<Item = (&'static str, Operation)>) -> Self {
        let known: Vec<_> = known.filter(|(_, operation)| table.resource.allows(*operation)).collect();
        let allow = allow(known.iter().map(|(method, _)| *method));
        Self { known, allow }
    }

    fn find(&self, method: &str, table: usize, key: Option<String>) -> Meaning<'_> {
        // The edge leaves out the body of the answer to HEAD.
        let wanted = if method == "HEAD" { "GET" } else { method };
        match self.known.iter().find(|(known, _)| *known == wanted) {
            Some((_, operation)) => Meaning::Operation { table, operation: *operation, key },
            None => no_method(method, &self.allow),
        }
    }
}

impl ActionRoute {
    fn find(&self, method: &str, table: usize, key: Option<String>) -> Meaning<'_> {
        let wanted = if method == "HEAD" { "GET" } else { method };
        match self.actions.iter().find(|action| action.method == wanted) {
            Some(action) => Meaning::Action { table, action, key },
            None => no_method(method, &self.allow),
        }
    }
}

fn own(label: usize, method: &str) -> Meaning<'static> {
    match (method, label) {
        ("GET" | "HEAD", 0) => Meaning::Health,
        ("GET" | "HEAD", 1) => Meaning::Ready,
        ("GET" | "HEAD", _) => Meaning::OpenApi,
        _ => no_method(method, OWN_METHODS),
    }
}

fn no_method<'r>(method: &str, allow: &'r str) -> Meaning<'r> {
    if method == "OPTIONS" { Meaning::Options(allow) } else { Meaning::NoMethod(allow) }
}

/// The value of `Allow`, with HEAD if there is GET, and always with OPTIONS.
fn allow(methods: impl Iterator<Item = &'static str>) -> String {
    let mut names = Vec::new();
    for method in methods {
        names.push(method);
        if method == "GET" {
            names.push("HEAD");
        }
    }
    names.push("OPTIONS");
    names.join(", ")
}

/// Checks a key from a path.
fn read_key(table: &Table, text: &str) -> Result<String, String> {
    let field = &table.columns[0];
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match value::from_text(&field.kind, text) {
        Ok(key) if is_number || !matches!(field.kind, crate::field::FieldType::Integer { .. }) => Ok(key),
        Err(problem) if !matches!(field.kind, crate::field::FieldType::Integer { .. }) => {
            Err(format!("The {} {problem}", field.name))
        }
        _ => Err(format!("The {} must be a positive 64-bit integer", field.name)),
    }
}

/// The path of a record.
pub(crate) fn record_path(table: &Table, key: &str) -> String {
    format!("{}/{}", table.resource.path, crate::query::encode(key))
}

/// The value of `Link` for the next page (RFC 8288 §3).
pub(crate) fn page_link(table: &Table, query: &str) -> String {
    format!("<{}?{query}>; rel=\"next\"", table.resource.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Field, Key, Reply, Resource};

    const fn action(method: &'static str, path: &'static str) -> Action {
        Action { method, path, about: "", run: |_, _| Ok(Reply { status: 204, json: String::new() }) }
    }

    static MOVIES: Resource =
        Resource::new("/api/movies", ["movie", "movies"], "movies", &[Field::text("title")]);
    static TODO: Resource = Resource {
        aliases: &[("UPDATE", Operation::Update)],
        operations: Operation::SINGLE,
        actions: &[action("GET", "/random"), action("POST", "/{id}/like"), action("DELETE", "/{id}/like")],
        ..Resource::new("/todo", ["task", "tasks"], "tasks", &[Field::text("title")])
    };
    static LOG: Resource = Resource {
        key: Key::text(Field::text("code").length(1..=4)),
        operations: &[Operation::List],
        ..Resource::new("/todo/log", ["entry", "entries"], "log", &[])
    };

    fn tables() -> Vec<Table> {
        [&MOVIES, &TODO, &LOG]
            .into_iter()
            .enumerate()
            .map(|(index, resource)| Table::new(index, resource).unwrap())
            .collect()
    }

    fn meant(method: &str, path: &str) -> String {
        let tables = tables();
        let routes = Routes::new(&tables);
        let found = routes.find(&tables, method, path);
        let meaning = match found.meaning {
            Meaning::Operation { table, operation, key } => {
                format!("{} {operation:?} {}", tables[table].resource.name, key.unwrap_or_default())
            }
            Meaning::Action { table, action, key } => {
                format!("{} {} {}", tables[table].resource.name, action.path, key.unwrap_or_default())
            }
            Meaning::Health => "health".to_owned(),
            Meaning::Ready => "ready".to_owned(),
            Meaning::OpenApi => "openapi".to_owned(),
            Meaning::Options(allow) => format!("options {allow}"),
            Meaning::NoMethod(allow) => format!("405 {allow}"),
            Meaning::NoKey(problem) => format!("400 {problem}"),
            Meaning::Unknown => "404".to_owned(),
        };
        format!("{}: {}", routes.labels[found.label], meaning.trim_end())
    }

    #[test]
    fn paths_and_methods_are_told_apart() {
        let positive = "400 The id must be a positive 64-bit integer";
        for (method, path, meaning) in [
            ("GET", "/api/movies", "/api/movies: movie List"),
            ("HEAD", "/api/movies", "/api/movies: movie List"),
            ("POST", "/api/movies", "/api/movies: movie Create"),
            ("DELETE", "/api/movies", "/api/movies: movie DeleteAll"),
            ("OPTIONS", "/api/movies", "/api/movies: options GET, HEAD, POST, DELETE, OPTIONS"),
            ("get", "/api/movies", "/api/movies: 405 GET, HEAD, POST, DELETE, OPTIONS"),
            ("GET", "/api/movies/7", "/api/movies/{id}: movie Read 7"),
            ("PATCH", "/api/movies/007", "/api/movies/{id}: movie Update 7"),
            ("GET", "/api/movies/9223372036854775807", "/api/movies/{id}: movie Read 9223372036854775807"),
            ("PURGE", "/api/movies/7", "/api/movies/{id}: 405 GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
            ("GET", "/api/movies/9223372036854775808", &format!("/api/movies/{{id}}: {positive}")),
            ("GET", "/api/movies/0", &format!("/api/movies/{{id}}: {positive}")),
            ("GET", "/api/movies/-1", &format!("/api/movies/{{id}}: {positive}")),
            ("GET", "/api/movies/+1", &format!("/api/movies/{{id}}: {positive}")),
            ("GET", "/api/movies/seven", &format!("/api/movies/{{id}}: {positive}")),
            ("GET", "/api/movies/7/8", "other: 404"),
            ("GET", "/api/moviesx", "other: 404"),
            ("GET", "/", "other: 404"),
            ("GET", "/ready", "/ready: ready"),
            ("POST", "/health", "/health: 405 GET, HEAD, OPTIONS"),
            ("UPDATE", "/todo/7", "/todo/{id}: task Update 7"),
            ("UPDATE", "/todo", "/todo: 405 GET, HEAD, POST, OPTIONS"),
            ("OPTIONS", "/todo/7", "/todo/{id}: options GET, HEAD, PUT, PATCH, DELETE, UPDATE, OPTIONS"),
            ("GET", "/todo/random", "/todo/random: task /random"),
            ("POST", "/todo/7/like", "/todo/{id}/like: task /{id}/like 7"),
            ("OPTIONS", "/todo/7/like", "/todo/{id}/like: options POST, DELETE, OPTIONS"),
            ("POST", "/todo/x/like", &format!("/todo/{{id}}/like: {positive}")),
            ("GET", "/todo/log", "/todo/log: entry List"),
            ("GET", "/todo/log/a", "other: 404"),
        ] {
            assert_eq!(meant(method, path), meaning, "{method} {path}");
        }
    }

    #[test]
    fn addresses_are_encoded() {
        let tables = tables();
        assert_eq!(record_path(&tables[0], "7"), "/api/movies/7");
        assert_eq!(record_path(&tables[2], "a b"), "/todo/log/a%20b");
        assert_eq!(page_link(&tables[0], "limit=2"), "</api/movies?limit=2>; rel=\"next\"");
    }
}
