//! The files that the gateway itself serves: the console, the documentation and the OpenAPI document, embedded and
//! compressed by the build script.

use std::io::Read;

use edge::{BodySize, Method, Refusal, Request, Response};
use flate2::read::GzDecoder;

pub(crate) use embedded::*;

/// One constant for each file, and the list of those that pages load, written by the build script.
mod embedded {
    #![allow(
        clippy::unreadable_literal,
        reason = "generated code has no readers; only long files have long numbers"
    )]
    use crate::assets::Asset;

    include!(concat!(env!("OUT_DIR"), "/assets.rs"));
}

/// The OpenAPI document.
pub(crate) fn openapi() -> serde_json::Result<serde_json::Value> {
    serde_json::from_reader(GzDecoder::new(OPENAPI_JSON.gzip))
}

/// The AsyncAPI document.
pub(crate) fn asyncapi() -> serde_json::Result<serde_json::Value> {
    serde_json::from_reader(GzDecoder::new(ASYNCAPI_JSON.gzip))
}

/// The file that `/assets/{name}` serves.
pub(crate) fn find(name: &str) -> Option<&'static Asset> {
    LOADED.into_iter().find(|asset| asset.name == name)
}

/// Pages load scripts, styles, images and data from the gateway only, and allow nothing inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An embedded file.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Its name, which is the last part of its path.
    name: &'static str,
    media_type: &'static str,
    /// Its length when it is not compressed, in bytes.
    length: u64,
    /// Its entity tags, one for each encoding, because the bytes differ (RFC 9110 §8.8.3.3).
    etag: &'static str,
    gzip_etag: &'static str,
    gzip: &'static [u8],
}

impl Asset {
    /// Answers with the file, compressed if the client accepts gzip.
    pub(crate) fn serve(&self, request: &Request<'_>, response: &mut Response<'_>) -> Result<(), Refusal> {
        let compressed = accepts_gzip(request);
        let etag = if compressed { self.gzip_etag } else { self.etag };
        let unchanged = has(request, etag);
        response.begin(if unchanged { 304 } else { 200 });
        for (name, value) in [
            ("etag", etag),
            // The next version may change it; revalidation costs one 304.
            ("cache-control", "no-cache"),
            ("vary", "accept-encoding"),
            ("content-security-policy", CONTENT_SECURITY_POLICY),
            ("referrer-policy", "no-referrer"),
        ] {
            response.field(name, value.as_bytes());
        }
        if unchanged {
            response.end_head(BodySize::None);
            return response.finish();
        }
        response.field("content-type", self.media_type.as_bytes());
        if compressed {
            response.field("content-encoding", b"gzip");
        }
        let length = if compressed { self.gzip.len() as u64 } else { self.length };
        response.end_head(BodySize::Known(length));
        if request.method() != Method::Head {
            self.write(compressed, response)?;
        }
        response.finish()
    }

    fn write(&self, compressed: bool, response: &mut Response<'_>) -> Result<(), Refusal> {
        if compressed {
            return response.write(self.gzip);
        }
        let mut decoder = GzDecoder::new(self.gzip);
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count =
                decoder.read(&mut buffer).map_err(|_| Refusal::Internal("an embedded file is damaged"))?;
            if count == 0 {
                return Ok(());
            }
            response.write(&buffer[..count])?;
        }
    }
}

/// All members of a list-valued field.
fn list<'c>(request: &Request<'c>, name: &str) -> impl Iterator<Item = &'c str> {
    let values = request.fields().filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    values
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether `Accept-Encoding` allows gzip (RFC 9110 §12.5.3).
fn accepts_gzip(request: &Request<'_>) -> bool {
    list(request, "accept-encoding").any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Whether `If-None-Match` names `etag`, by weak comparison (RFC 9110 §13.1.2).
fn has(request: &Request<'_>, etag: &str) -> bool {
    list(request, "if-none-match").any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asset_has_the_length_that_it_promises() {
        for asset in LOADED.into_iter().chain([&CONSOLE_HTML, &DOCS_HTML, &OPENAPI_JSON, &OPENAPI_YAML]) {
            let mut content = Vec::new();
            GzDecoder::new(asset.gzip).read_to_end(&mut content).unwrap();
            assert_eq!(content.len() as u64, asset.length, "{}", asset.name);
            assert_ne!(asset.etag, asset.gzip_etag);
        }
    }

    #[test]
    fn pages_have_no_inline_script_or_style() {
        for page in [&CONSOLE_HTML, &DOCS_HTML] {
            let mut html = String::new();
            GzDecoder::new(page.gzip).read_to_string(&mut html).unwrap();
            for inline in ["<style", " style=", " onclick", " onload", "javascript:", "<script>"] {
                assert!(!html.contains(inline), "{} has {inline}", page.name);
            }
            assert!(
                !html.contains("http://") && !html.contains("https://"),
                "{} loads from elsewhere",
                page.name
            );
        }
    }
}
