//! One function per operation: reads what HTTP says, asks the service, and says the outcome in HTTP.

use foundation::json::is_json;
use serde::Serialize;

use crate::error::Error;
use crate::http::{Body, Request, Response};
use crate::movie::{InvalidMovie, Movie, MovieChanges, NewMovie};
use crate::preconditions::{self, IfNoneMatch, etag};
use crate::repository::Filter;
use crate::routes::{movie_path, page_path};
use crate::service::MovieService;
use crate::{query, service};

/// Most movies that one page may hold.
const LIMIT_MAX: i64 = 1_000;

pub(crate) fn health() -> Response<'static> {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
    }
    Response::json(200, &Health { status: "ok" })
}

pub(crate) fn ready(movies: &mut MovieService) -> Response<'static> {
    #[derive(Serialize)]
    struct Ready {
        status: &'static str,
    }
    match movies.check() {
        Ok(()) => Response::json(200, &Ready { status: "ready" }),
        Err(error) => {
            Response::error(503, "PostgreSQL is not reachable").with("Retry-After", "1").because(&error)
        }
    }
}

pub(crate) fn list<'a>(request: &Request, movies: &'a mut MovieService) -> Response<'a> {
    let filter = match parse_filter(&request.query) {
        Ok(filter) => filter,
        Err(response) => return response,
    };
    match movies.list(&filter) {
        Ok(rows) => {
            let mut headers = vec![("Content-Type", "application/json".to_owned())];
            if let Some(after) = rows.next_after {
                headers.push(("Link", next_link(&filter, after)));
            }
            Response { status: 200, headers, body: Body::Movies(Box::new(rows)), cause: None }
        }
        Err(error) => failure(&error),
    }
}

pub(crate) fn create(request: &Request, movies: &mut MovieService) -> Response<'static> {
    let new = match read_body(request, NewMovie::parse) {
        Ok(new) => new,
        Err(response) => return response,
    };
    match movies.create(&new) {
        Ok(movie) => with_etag(Response::json(201, &movie), &movie).with("Location", movie_path(movie.id)),
        Err(error) => failure(&error),
    }
}

pub(crate) fn get(id: i64, request: &Request, movies: &mut MovieService) -> Response<'static> {
    let movie = match movies.get(id) {
        Ok(movie) => movie,
        Err(error) => return failure(&error),
    };
    let held = request.if_none_match.as_deref().is_some_and(|field| IfNoneMatch::parse(field).holds(&movie));
    let status = if held { 304 } else { 200 };
    with_etag(Response::json(status, &movie), &movie)
}

pub(crate) fn update(id: i64, request: &Request, movies: &mut MovieService) -> Response<'static> {
    let changes = match read_body(request, MovieChanges::parse) {
        Ok(changes) => changes,
        Err(response) => return response,
    };
    let condition = match condition(request) {
        Ok(condition) => condition,
        Err(response) => return response,
    };
    match movies.update(id, &changes, &condition) {
        Ok(movie) => with_etag(Response::json(200, &movie), &movie),
        Err(error) => failure(&error),
    }
}

pub(crate) fn delete(id: i64, request: &Request, movies: &mut MovieService) -> Response<'static> {
    #[derive(Serialize)]
    struct Deleted {
        message: &'static str,
        id: i64,
    }
    let condition = match condition(request) {
        Ok(condition) => condition,
        Err(response) => return response,
    };
    match movies.delete(id, &condition) {
        Ok(()) => Response::json(200, &Deleted { message: "Movie was deleted successfully.", id }),
        Err(error) => failure(&error),
    }
}

pub(crate) fn delete_all(movies: &mut MovieService) -> Response<'static> {
    #[derive(Serialize)]
    struct Deleted {
        message: String,
        deleted: u64,
    }
    match movies.delete_all() {
        Ok(deleted) => {
            let message = format!("Successfully deleted all {deleted} movies.");
            Response::json(200, &Deleted { message, deleted })
        }
        Err(error) => failure(&error),
    }
}

/// The one place where an error becomes a status. The cause goes to the log; the client gets words of its own.
fn failure(error: &Error) -> Response<'static> {
    match error {
        Error::NotFound => Response::error(404, "Movie not found"),
        Error::Stale => Response::error(412, "The movie has changed since you read it"),
        Error::Unavailable(_) => Response::unavailable().because(error),
        Error::TooSlow => Response::error(504, "The movie database did not answer in time").because(error),
        _ => Response::error(500, "Internal server error").because(error),
    }
}

fn with_etag<'a>(response: Response<'a>, movie: &Movie) -> Response<'a> {
    response.with("ETag", etag(movie))
}

fn read_body<T>(
    request: &Request,
    parse: impl FnOnce(&[u8]) -> Result<T, InvalidMovie>,
) -> Result<T, Response<'static>> {
    if !request.content_type.as_deref().is_some_and(|value| is_json(value.as_bytes())) {
        return Err(Response::error(415, "The body must be application/json"));
    }
    parse(&request.body).map_err(|invalid| match invalid {
        InvalidMovie::Malformed(problem) => Response::error(400, &problem),
        InvalidMovie::Fields(fields) => Response::invalid_fields(&fields),
    })
}

fn condition(request: &Request) -> Result<service::Condition, Response<'static>> {
    match request.if_match.as_deref() {
        None => Ok(service::Condition::None),
        Some(field) => preconditions::if_match(field).ok_or_else(|| {
            Response::error(400, "If-Match must be * or a list of entity tags in double quotes")
        }),
    }
}

fn parse_filter(query: &str) -> Result<Filter, Response<'static>> {
    let parameters = query::parameters(query).map_err(|problem| Response::error(400, problem))?;
    let mut filter = Filter::default();
    let mut seen = [false; 3];
    for (name, value) in parameters {
        let known = match name.as_str() {
            "title" => {
                filter.title = value;
                0
            }
            "after" => {
                let after = value.parse().ok().filter(|after| *after >= 0);
                filter.after = after.ok_or_else(|| {
                    Response::invalid_fields(&[("after", "must be an integer from 0 to 9223372036854775807")])
                })?;
                1
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                filter.limit = Some(limit.ok_or_else(|| {
                    Response::invalid_fields(&[("limit", "must be an integer from 1 to 1000")])
                })?);
                2
            }
            _ => continue,
        };
        if std::mem::replace(&mut seen[known], true) {
            return Err(Response::invalid_fields(&[(name.as_str(), "must be given once")]));
        }
    }
    Ok(filter)
}

/// The next page, as a web link (RFC 8288 §3).
fn next_link(filter: &Filter, after: i64) -> String {
    let mut query = format!("limit={}&after={after}", filter.limit.unwrap_or(LIMIT_MAX));
    if !filter.title.is_empty() {
        query.push_str("&title=");
        query.push_str(&query::encode(&filter.title));
    }
    format!("<{}>; rel=\"next\"", page_path(&query))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_and_its_errors_named() {
        let filter = parse_filter("title=a%25&limit=2&after=7&other=x").ok().unwrap();
        assert_eq!(filter, Filter { title: "a%".to_owned(), after: 7, limit: Some(2) });
        for query in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=",
            "after=-1",
            "after=x",
            "title=%ff",
            "limit=1&limit=2",
        ] {
            assert_eq!(parse_filter(query).err().map(|response| response.status), Some(400), "{query}");
        }
    }

    #[test]
    fn the_link_leads_on_with_the_same_search() {
        let filter = Filter { title: "a&b".to_owned(), after: 0, limit: Some(2) };
        assert_eq!(next_link(&filter, 9), "</api/movies?limit=2&after=9&title=a%26b>; rel=\"next\"");
    }
}
