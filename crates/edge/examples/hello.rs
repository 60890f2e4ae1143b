//! The smallest service: `cargo run --release -p edge --example hello`, then `curl -i http://127.0.0.1:3999/hello`.

use std::error::Error;
use std::sync::Arc;

use edge::{EdgeSettings, Method, Refusal, Request, Response, Server, Service, path};
use foundation::Shutdown;

struct Hello;

impl Service for Hello {
    fn serve(&self, request: &mut Request<'_>, response: &mut Response<'_>) -> Result<(), Refusal> {
        let target = path::parse(request.target())?;
        match (&*target.path, request.method()) {
            ("/hello", Method::Get | Method::Head) => response.send_json(200, &[], br#"{"hello":"world"}"#),
            ("/hello", Method::Post) => {
                let body = request.read_body(1 << 20)?;
                response.send(200, &[("content-type", "application/octet-stream")], &body)
            }
            ("/hello", _) => {
                let fields = [("allow", "GET, HEAD, POST")];
                response.send_json(
                    405,
                    &fields,
                    br#"{"error":"method not allowed","code":"method_not_allowed"}"#,
                )
            }
            _ => response.send_json(404, &[], br#"{"error":"not found","code":"path_not_found"}"#),
        }
    }

    fn refused(&self, _: &Refusal) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::bind("127.0.0.1", 3999)?;
    server.run(&EdgeSettings::default(), Arc::new(Hello), &Shutdown::on_signals()?)?;
    Ok(())
}
