//! Lists: columns, order and pages, as RabbitMQ's management API has them.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::request::{ApiError, ApiResult, Reply, Target};

/// Items on one page, if the client does not say.
const PAGE_SIZE: usize = 100;
/// The most items that a client may ask for on one page.
const MAX_PAGE_SIZE: usize = 500;

/// The answer that lists `items`. Each item becomes text at once, so that a long list never exists as a whole in a
/// larger form.
pub(super) fn list(items: impl Iterator<Item = Value>, target: &Target) -> ApiResult {
    let columns = columns(target);
    let page = page(target)?;
    let sort = target.query("sort").filter(|path| !path.is_empty());
    let name = target.query("name").unwrap_or_default().to_lowercase();
    if !name.is_empty() && target.is_set("use_regex") {
        return ApiError::bad("use_regex is not supported: 'name' is a part of the name");
    }
    let mut total = 0;
    let mut rows: Vec<(Option<Value>, String)> = Vec::new();
    for item in items {
        total += 1;
        let named = item["name"].as_str().unwrap_or_default();
        if page.is_some() && !name.is_empty() && !named.to_lowercase().contains(&name) {
            continue;
        }
        rows.push((sort.map(|path| find(&item, path).clone()), restrict(item, &columns).to_string()));
    }
    if sort.is_some() {
        rows.sort_by(|(a, _), (b, _)| compare(a.as_ref(), b.as_ref()));
        if target.is_set("sort_reverse") {
            rows.reverse();
        }
    }
    let Some((page, size)) = page else { return Ok(Reply::Text(array(&rows))) };
    let filtered = rows.len();
    let pages = filtered.div_ceil(size).max(1);
    if page > pages {
        let reason = format!("Page out of range, page: {page} page size: {size}, len: {filtered}");
        return Err(ApiError::Page("page_out_of_range", reason));
    }
    let shown = &rows[(page - 1) * size..filtered.min(page * size)];
    Ok(Reply::Text(format!(
        "{{\"filtered_count\":{filtered},\"item_count\":{},\"items\":{},\"page\":{page},\"page_count\":{pages},\
         \"page_size\":{size},\"total_count\":{total}}}",
        shown.len(),
        array(shown)
    )))
}

/// The answer that shows one object.
pub(super) fn show(item: Value, target: &Target) -> Reply {
    Reply::Json(restrict(item, &columns(target)))
}

fn array(rows: &[(Option<Value>, String)]) -> String {
    let mut text = String::from("[");
    for (index, (_, row)) in rows.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(row);
    }
    text.push(']');
    text
}

fn columns(target: &Target) -> Vec<&str> {
    target.query("columns").unwrap_or_default().split(',').filter(|column| !column.is_empty()).collect()
}

/// The number of the page from 1 on, and its size; `None` if the list is to be shown as a whole.
fn page(target: &Target) -> ApiResult<Option<(usize, usize)>> {
    let number = |name: &str, default: usize, max: usize| match target.query(name).map(str::parse) {
        None => Ok(default),
        Some(Ok(number)) if (1..=max).contains(&number) => Ok(number),
        Some(_) => {
            let reason = format!("'{name}' must be a number from 1 to {max}");
            Err(ApiError::Page("invalid_pagination_parameters", reason))
        }
    };
    if target.query("page").is_none() {
        return Ok(None);
    }
    Ok(Some((number("page", 1, 1_000_000)?, number("page_size", PAGE_SIZE, MAX_PAGE_SIZE)?)))
}

/// What `path`, names with dots between, leads to in an item.
fn find<'v>(item: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(item, |value, name| &value[name])
}

/// Only these columns of an item; all of it if there are none.
fn restrict(item: Value, columns: &[&str]) -> Value {
    if columns.is_empty() {
        return item;
    }
    let mut restricted = json!({});
    for column in columns {
        let found = find(&item, column);
        if found.is_null() {
            continue;
        }
        let mut place = &mut restricted;
        for name in column.split('.') {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[name];
        }
        *place = found.clone();
    }
    restricted
}

/// Numbers by size, then everything else as text; what is missing comes first.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let (a, b) = (a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null));
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            _ => plain(a).cmp(&plain(b)),
        },
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> impl Iterator<Item = Value> {
        [("b", 10), ("a", 9), ("c", 100)]
            .into_iter()
            .map(|(name, depth)| json!({ "name": name, "totals": { "depth": depth, "x": 1 }, "vhost": "/" }))
    }

    fn listed(query: &str) -> Value {
        let target = Target::parse(&format!("/api/x?{query}")).unwrap();
        match list(items(), &target) {
            Ok(Reply::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn columns_restrict_and_sort_orders() {
        assert_eq!(listed("").as_array().map(Vec::len), Some(3));
        let expected = json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }]);
        assert_eq!(listed("columns=name&sort=name"), expected);
        let expected = json!([{ "totals": { "depth": 100 } }, { "totals": { "depth": 10 } }, { "totals": { "depth": 9 } }]);
        assert_eq!(listed("columns=totals.depth,none&sort=totals.depth&sort_reverse=true"), expected);
    }

    #[test]
    fn pages_are_counted() {
        let expected = json!({ "filtered_count": 3, "item_count": 1, "items": [{ "name": "c" }], "page": 2,
            "page_count": 2, "page_size": 2, "total_count": 3 });
        assert_eq!(listed("page=2&page_size=2&columns=name&sort=name"), expected);
        let found = listed("page=1&name=B");
        assert_eq!((&found["filtered_count"], &found["total_count"]), (&json!(1), &json!(3)));
        for wrong in
            ["page=0", "page=x", "page=1&page_size=501", "page=3&page_size=2", "page=1&name=a&use_regex=true"]
        {
            let target = Target::parse(&format!("/api/x?{wrong}")).unwrap();
            let refused = list(items(), &target);
            assert!(matches!(refused, Err(ApiError::BadRequest(_) | ApiError::Page(..))), "{wrong}");
        }
    }
}
