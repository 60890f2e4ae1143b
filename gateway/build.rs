//! Prepares the files that the gateway itself serves: the console, /docs, the OpenAPI and the AsyncAPI document, each
//! compressed at build time. The JSON forms of the documents are generated from the YAML here, so that the two cannot
//! differ.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Our own files, in `gateway/assets`.
const OWN: [&str; 9] = [
    "console.css",
    "console.html",
    "console.js",
    "docs-text.js",
    "docs.css",
    "docs.html",
    "docs.js",
    "icon.svg",
    "services.js",
];
const OPENAPI: &str = "../docs/openapi.yaml";
const ASYNCAPI: &str = "../docs/asyncapi.yaml";

fn main() -> Result<(), Box<dyn Error>> {
    let mut assets = Assets { folder: env::var("OUT_DIR")?.into(), source: String::new() };
    for name in OWN {
        let path = format!("assets/{name}");
        println!("cargo::rerun-if-changed={path}");
        assets.add(name, &fs::read(path)?)?;
    }
    println!("cargo::rerun-if-changed={OPENAPI}");
    let yaml = fs::read_to_string(OPENAPI)?;
    let document: serde_json::Value = serde_yaml_ng::from_str(&yaml)?;
    assets.add("openapi.yaml", yaml.as_bytes())?;
    assets.add("openapi.json", &serde_json::to_vec(&document)?)?;
    println!("cargo::rerun-if-changed={ASYNCAPI}");
    let document: serde_json::Value = serde_yaml_ng::from_str(&fs::read_to_string(ASYNCAPI)?)?;
    assets.add("asyncapi.json", &serde_json::to_vec(&document)?)?;

    fs::write(assets.folder.join("assets.rs"), assets.source)?;
    Ok(())
}

/// The files that are embedded, and the Rust source that embeds them.
struct Assets {
    folder: PathBuf,
    source: String,
}

impl Assets {
    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), Box<dyn Error>> {
        let path = self.folder.join(format!("{name}.gz"));
        let mut encoder = GzEncoder::new(fs::File::create(&path)?, Compression::best());
        encoder.write_all(content)?;
        encoder.finish()?;
        let etag = Sha256::digest(content)[..12].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let constant = name.replace(['.', '-'], "_").to_uppercase();
        writeln!(
            self.source,
            "/// `{name}`\npub(crate) static {constant}: Asset = Asset {{ name: {name:?}, media_type: {:?}, length: \
             {}, etag: {:?}, gzip_etag: {:?}, gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.gz\")) }};",
            media_type(name)?,
            content.len(),
            format!("\"{etag}\""),
            format!("\"{etag}-gzip\""),
        )?;
        Ok(())
    }
}

fn media_type(name: &str) -> Result<&'static str, String> {
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("svg") => Ok("image/svg+xml"),
        Some("json") => Ok("application/json"),
        // RFC 9512.
        Some("yaml") => Ok("application/yaml"),
        _ => Err(format!("no media type is known for {name}")),
    }
}
