//! Prepares the files that the gateway itself serves: the console, /docs, the OpenAPI and the AsyncAPI document, each
//! compressed at build time. The JSON forms of the documents are generated from the YAML here, so that the two cannot
//! differ.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Our own files. Every file in this folder is embedded.
const OWN: &str = "assets";
/// The pages, which have paths of their own; the other files are loaded by them from `/assets/{name}`.
const PAGES: [&str; 2] = ["console.html", "docs.html"];
const OPENAPI: &str = "../docs/openapi.yaml";
const ASYNCAPI: &str = "../docs/asyncapi.yaml";

fn main() -> Result<(), Box<dyn Error>> {
    let mut assets = Assets { folder: env::var("OUT_DIR")?.into(), source: String::new() };
    println!("cargo::rerun-if-changed={OWN}");
    let mut own = fs::read_dir(OWN)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, io::Error>>()?;
    own.sort();
    let mut loaded = Vec::new();
    for path in own {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file's name is not UTF-8")?;
        assets.add(name, &fs::read(&path)?)?;
        if !PAGES.contains(&name) {
            loaded.push(name.to_owned());
        }
    }
    println!("cargo::rerun-if-changed={OPENAPI}");
    let yaml = fs::read_to_string(OPENAPI)?;
    let document: serde_json::Value = serde_yaml_ng::from_str(&yaml)?;
    assets.add("openapi.yaml", yaml.as_bytes())?;
    assets.add("openapi.json", &serde_json::to_vec(&document)?)?;
    println!("cargo::rerun-if-changed={ASYNCAPI}");
    let document: serde_json::Value = serde_yaml_ng::from_str(&fs::read_to_string(ASYNCAPI)?)?;
    assets.add("asyncapi.json", &serde_json::to_vec(&document)?)?;
    loaded.push("asyncapi.json".to_owned());

    assets.list(&loaded)?;
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
        let constant = constant(name);
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

    /// Lists the files that pages load.
    fn list(&mut self, names: &[String]) -> Result<(), Box<dyn Error>> {
        let constants: Vec<_> = names.iter().map(|name| format!("&{}", constant(name))).collect();
        writeln!(
            self.source,
            "/// The files that pages load from `/assets/{{name}}`.\npub(crate) static LOADED: [&Asset; {}] = [{}];",
            constants.len(),
            constants.join(", ")
        )?;
        Ok(())
    }
}

/// The name of a file's constant.
fn constant(name: &str) -> String {
    name.replace(['.', '-'], "_").to_uppercase()
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
