//! Which request is answered by which handler. Only this file knows paths.

use crate::handlers;
use crate::http::{Request, Response};
use crate::metrics::Metrics;
use crate::query::decode;
use crate::service::MovieService;

const COLLECTION: &str = "/api/movies";
const COLLECTION_METHODS: &str = "GET, HEAD, POST, DELETE, OPTIONS";
const MOVIE_METHODS: &str = "GET, HEAD, PUT, PATCH, DELETE, OPTIONS";
const PROBE_METHODS: &str = "GET, HEAD, OPTIONS";

/// The routes as metrics name them.
pub(crate) const LABELS: &[&str] =
    &[COLLECTION, "/api/movies/{id}", "/health", "/ready", "/metrics", "other"];

/// What a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// All movies.
    Collection,
    /// One movie; `None` when what stands for its id is none.
    Movie(Option<i64>),
    /// Whether the process serves.
    Health,
    /// Whether its dependencies answer.
    Ready,
    /// What it has counted.
    Metrics,
    /// Nothing that exists.
    Unknown,
}

impl Route {
    /// Finds the meaning of a percent-encoded path, with or without a slash at its end.
    pub(crate) fn of(path: &str) -> Self {
        let Ok(path) = decode(path, false) else { return Self::Unknown };
        let path = path.strip_suffix('/').unwrap_or(&path);
        match path {
            COLLECTION => Self::Collection,
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            _ => match path.strip_prefix(COLLECTION).and_then(|rest| rest.strip_prefix('/')) {
                Some(id) if !id.is_empty() && !id.contains('/') => Self::Movie(movie_id(id)),
                _ => Self::Unknown,
            },
        }
    }

    /// The place of the route in [`LABELS`].
    pub(crate) fn label_index(self) -> usize {
        match self {
            Self::Collection => 0,
            Self::Movie(_) => 1,
            Self::Health => 2,
            Self::Ready => 3,
            Self::Metrics => 4,
            Self::Unknown => 5,
        }
    }

    /// Whether answering may take as long as the client likes, because it streams a list.
    pub(crate) fn is_list(self, method: &str) -> bool {
        self == Self::Collection && matches!(method, "GET" | "HEAD")
    }
}

/// A positive 64-bit integer, written in digits alone.
fn movie_id(text: &str) -> Option<i64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| is_number && *id > 0)
}

/// Answers a request.
pub(crate) fn answer<'a>(request: &Request, movies: &'a mut MovieService, metrics: &Metrics) -> Response<'a> {
    match Route::of(&request.path) {
        Route::Collection => match request.method.as_str() {
            "GET" | "HEAD" => handlers::list(request, movies),
            "POST" => handlers::create(request, movies),
            "DELETE" => handlers::delete_all(movies),
            method => other_method(method, COLLECTION_METHODS),
        },
        Route::Movie(id) => {
            let Some(id) = id else {
                return Response::error(400, "The id must be a positive 64-bit integer");
            };
            match request.method.as_str() {
                "GET" | "HEAD" => handlers::get(id, request, movies),
                "PUT" | "PATCH" => handlers::update(id, request, movies),
                "DELETE" => handlers::delete(id, request, movies),
                method => other_method(method, MOVIE_METHODS),
            }
        }
        Route::Health => match request.method.as_str() {
            "GET" | "HEAD" => handlers::health(),
            method => other_method(method, PROBE_METHODS),
        },
        Route::Ready => match request.method.as_str() {
            "GET" | "HEAD" => handlers::ready(movies),
            method => other_method(method, PROBE_METHODS),
        },
        Route::Metrics => match request.method.as_str() {
            "GET" | "HEAD" => Response::text(foundation::metrics::CONTENT_TYPE, metrics.text()),
            method => other_method(method, PROBE_METHODS),
        },
        Route::Unknown => Response::error(404, "Not found"),
    }
}

/// The address of a movie.
pub(crate) fn movie_path(id: i64) -> String {
    format!("{COLLECTION}/{id}")
}

/// The address of a page of the collection.
pub(crate) fn page_path(query: &str) -> String {
    format!("{COLLECTION}?{query}")
}

fn other_method(method: &str, allowed: &'static str) -> Response<'static> {
    match method {
        "OPTIONS" => Response::empty(204).with("Allow", allowed),
        _ => Response::error(405, "Method not allowed").with("Allow", allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart_with_and_without_a_slash_at_the_end() {
        for (path, route) in [
            ("/api/movies", Route::Collection),
            ("/api/movies/", Route::Collection),
            ("/api/movies/7", Route::Movie(Some(7))),
            ("/api/movies/7/", Route::Movie(Some(7))),
            ("/api/movies/%37", Route::Movie(Some(7))),
            ("/api/movies/9223372036854775807", Route::Movie(Some(i64::MAX))),
            ("/api/movies/9223372036854775808", Route::Movie(None)),
            ("/api/movies/0", Route::Movie(None)),
            ("/api/movies/-1", Route::Movie(None)),
            ("/api/movies/+1", Route::Movie(None)),
            ("/api/movies/seven", Route::Movie(None)),
            ("/api/movies/7/8", Route::Unknown),
            ("/api/movies//", Route::Unknown),
            ("/api/moviesx", Route::Unknown),
            ("/health", Route::Health),
            ("/ready/", Route::Ready),
            ("/metrics", Route::Metrics),
            ("/", Route::Unknown),
            ("/%ff", Route::Unknown),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
            let label = LABELS[route.label_index()];
            let expected = match route {
                Route::Unknown => "other",
                Route::Movie(_) => "/api/movies/{id}",
                _ => path.trim_end_matches('/'),
            };
            assert_eq!(label, expected, "{path}");
        }
    }
}
