//! Connects, sends one event, and prints what happens until Ctrl-C:
//!
//! `cargo run -p socketio --example listen -- http://127.0.0.1:5000 /tasks` (with `TOKEN` in the environment if the
//! server requires one, and `RUST_LOG=debug` for more output).

#![allow(clippy::print_stdout, reason = "an example prints what happens")]

use std::error::Error;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::json;
use socketio::{Client, Event};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: listen URL [NAMESPACE]")?;
    let namespace = args.next().unwrap_or_else(|| "/".to_owned());

    // Called before each attempt: a real program would fetch a fresh token here.
    let headers = || async {
        let mut headers = HeaderMap::new();
        if let Ok(token) = std::env::var("TOKEN") {
            headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}"))?);
        }
        Ok(headers)
    };
    let (client, mut events) = Client::builder(url).namespace(namespace).headers(headers).connect()?;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            Some(Event::Connected { transport, .. }) => {
                println!("connected by {transport:?}");
                client.emit("hello", json!({"from": "listen"})).await?;
            }
            Some(Event::Message(message)) => {
                println!("{} {:?}", message.event, message.args);
                if let Some(ack) = message.ack {
                    ack.send(()).await?;
                }
            }
            Some(Event::Disconnected { reason }) => println!("disconnected: {reason}"),
            Some(Event::ConnectFailed { error, attempt, next_in }) => {
                println!("attempt {attempt} failed: {error}; again in {next_in:.1?}");
            }
            Some(other) => println!("{other:?}"),
            None => break,
        }
    }
    client.shutdown().await;
    Ok(())
}
