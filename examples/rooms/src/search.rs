//! Reads the query parameters of the rooms' own. What is returned becomes a parameter of a statement, as text.

/// Largest distance of a search, in kilometres.
const KM_MAX: f64 = 1_000.0;
const TEXT_MAX_CHARS: usize = 200;

/// Words to search for. A minus that no word follows is left out, because PostgreSQL fails on dozens of them in a row.
pub(crate) fn words(text: &str) -> Result<String, &'static str> {
    let text = keyword(text)?;
    let leaves_out = |rest: &str| {
        let word = rest.strip_prefix('"').unwrap_or(rest);
        word.starts_with(char::is_alphanumeric)
    };
    let kept = text.char_indices().filter(|(at, c)| *c != '-' || leaves_out(&text[at + 1..]));
    Ok(kept.map(|(_, c)| c).collect())
}

/// A value to compare with.
pub(crate) fn keyword(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("must not be empty"),
        text if text.chars().count() > TEXT_MAX_CHARS => Err("must not be longer than 200 characters"),
        text => Ok(text.to_owned()),
    }
}

/// A point: latitude and longitude in degrees.
pub(crate) fn place(text: &str) -> Result<String, &'static str> {
    let point = text.split_once(',').and_then(|(latitude, longitude)| {
        Some((number(latitude, -90.0, 90.0)?, number(longitude, -180.0, 180.0)?))
    });
    let (latitude, longitude) =
        point.ok_or("must be a latitude and a longitude in degrees, such as 48.2,16.37")?;
    Ok(format!("{latitude},{longitude}"))
}

/// A distance in kilometres.
pub(crate) fn distance(text: &str) -> Result<String, &'static str> {
    let km = number(text, 0.0, KM_MAX).ok_or("must be a number of kilometres from 0 to 1000")?;
    Ok(km.to_string())
}

/// A decimal number in this range; not `inf`, `NaN` or an exponent, which Rust's parser takes as well.
fn number(text: &str, min: f64, max: f64) -> Option<f64> {
    let text = text.trim();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    text.parse().ok().filter(|number| is_plain && (min..=max).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_two_numbers_on_the_earth() {
        assert_eq!(place("48.2, 16.37").as_deref(), Ok("48.2,16.37"));
        assert_eq!(place("-90,180").as_deref(), Ok("-90,180"));
        for text in
            ["", "48.2", "48.2,", ",16", "90.1,0", "0,-180.5", "NaN,0", "1e1,0", "1,2,3", "inf,0", "48,2;1"]
        {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_distance_and_words_have_a_limit() {
        assert_eq!(distance("0.5").as_deref(), Ok("0.5"));
        for text in ["", "-1", "1000.1", "x", "inf"] {
            assert!(distance(text).is_err(), "{text}");
        }
        assert_eq!(words(" near the park ").as_deref(), Ok("near the park"));
        let kept = r#"metro -loud -"main road" well-lit -é"#;
        assert_eq!(words(kept).as_deref(), Ok(kept));
        assert_eq!(words(r"-- metro - --loud -(").as_deref(), Ok(" metro  -loud ("));
        assert_eq!(keyword("- a").as_deref(), Ok("- a"));
        assert!(words("  ").is_err() && words(&"é".repeat(201)).is_err() && words(&"é".repeat(200)).is_ok());
    }
}
