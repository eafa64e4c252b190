//! The server's side: is it there, does it know this node, and do they agree on encryption?

use vantage6::{Error, NodeId};

use super::Line;
use crate::config::Config;
use crate::core::encryption::{Agreement, agree};
use crate::node;

/// Looks at the server; gives the node's number if the server told it.
pub async fn examine(config: &Config, tell: &mut (dyn FnMut(Line) + Send)) -> Option<NodeId> {
    let client = match node::client(config) {
        Ok(client) => client,
        Err(error) => {
            tell(Line::wrong("server", error.to_string()));
            return None;
        }
    };
    let url = client.url().to_string();
    let me = match client.whoami().await {
        Ok(me) => me,
        Err(error @ Error::WrongApiKey { .. }) => {
            tell(Line::ok("server", format!("{url} answers")));
            tell(Line::wrong("login", error.to_string()));
            return None;
        }
        Err(error) => {
            tell(Line::wrong(
                "server",
                format!("{url} can't be used: {error}. Are server_url, port and api_path right, and is it running?"),
            ));
            return None;
        }
    };
    tell(Line::ok("server", format!("{url} answers")));
    tell(Line::ok(
        "login",
        format!(
            "node {} '{}' of organization {} in collaboration {}",
            me.id, me.name, me.organization, me.collaboration
        ),
    ));
    tell(encryption(config, &client, &me).await);
    Some(me.id)
}

async fn encryption(config: &Config, client: &vantage6::Client, me: &vantage6::Node) -> Line {
    const SUBJECT: &str = "encryption";
    let cryptor = match config.encryption.cryptor() {
        Ok(cryptor) => cryptor,
        Err(error) => return Line::wrong(SUBJECT, error),
    };
    let (collaboration, organization) =
        match tokio::try_join!(client.collaboration(me.collaboration), client.organization(me.organization)) {
            Ok(both) => both,
            Err(error) => return Line::wrong(SUBJECT, format!("the server does not say what it has: {error}")),
        };
    match agree(&cryptor, &collaboration, &organization) {
        Agreement::Agreed if cryptor.is_encrypted() => {
            Line::ok(SUBJECT, "on; the private key belongs to the organization's public key")
        }
        Agreement::Agreed => Line::ok(SUBJECT, format!("off, as in the collaboration '{}'", collaboration.name)),
        Agreement::Publish(key) => Line::ok(
            SUBJECT,
            format!("on; the organization gets its public key when the node starts: {}", key.fingerprint()),
        ),
        Agreement::Disagreed(why) => Line::wrong(SUBJECT, why.to_string()),
    }
}
