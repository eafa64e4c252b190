//! Checks the server: whether it answers, knows this node, and agrees with it on encryption.

use printable::excerpt;
use sextant_config::Config;
use sextant_core::doctor_line::Line;
use sextant_hub::encryption::{Disagreement, agree, has_key};
use vantage6::encryption::Cryptor;
use vantage6::{Error, NodeId};

/// Checks the server. Returns the node's id if the server provides it.
pub async fn examine(config: &Config, tell: &mut (dyn FnMut(Line) + Send)) -> Option<NodeId> {
    let client = match sextant_hub::client(config) {
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
            tell(Line::wrong("server", cannot_be_used(&url, &error)));
            return None;
        }
    };
    tell(Line::ok("server", format!("{url} answers")));
    tell(Line::ok(
        "login",
        format!(
            "node {} '{}' of organization {} in collaboration {}",
            me.id,
            excerpt(&me.name),
            me.organization,
            me.collaboration
        ),
    ));
    tell(encryption(config, &client, &me).await);
    Some(me.id)
}

/// Says that the server can't be used, and what to check. For TLS, the error itself says that.
fn cannot_be_used(url: &str, error: &Error) -> String {
    match error {
        Error::Tls { .. } => format!("{url} can't be used: {error}."),
        _ => format!("{url} can't be used: {error}. Are server_url, port and api_path right, and is it running?"),
    }
}

async fn encryption(config: &Config, client: &vantage6::Client, me: &vantage6::Node) -> Line {
    const SUBJECT: &str = "encryption";
    let cryptor = match config.encryption.cryptor() {
        Ok(cryptor) => cryptor,
        Err(error) => return Line::wrong(SUBJECT, error),
    };
    if let Err(error) = config.encryption.clone().of_organization(me.organization) {
        return Line::wrong(SUBJECT, error);
    }
    match compare(&cryptor, client, me).await {
        Ok(Comparison::Agrees(text)) => Line::ok(SUBJECT, text),
        Ok(Comparison::Disagrees(why)) => Line::wrong(SUBJECT, why.to_string()),
        Err(error) => Line::wrong(SUBJECT, format!("the server does not say what it has: {error}")),
    }
}

/// Whether configuration and server agree on encryption.
enum Comparison {
    /// With a description of their settings.
    Agrees(String),
    Disagrees(Disagreement),
}

/// Compares the settings of configuration and server.
async fn compare(cryptor: &Cryptor, client: &vantage6::Client, me: &vantage6::Node) -> Result<Comparison, Error> {
    let collaboration = client.collaboration(me.collaboration).await?;
    let key = match agree(cryptor, &collaboration) {
        Ok(Some(key)) => key,
        Ok(None) => {
            let name = excerpt(&collaboration.name);
            return Ok(Comparison::Agrees(format!("off, as in the collaboration '{name}'")));
        }
        Err(why) => return Ok(Comparison::Disagrees(why)),
    };
    let organization = client.organization(me.organization).await?;
    Ok(match has_key(&organization, key) {
        Ok(true) => Comparison::Agrees("on; the private key belongs to the organization's public key".to_owned()),
        Ok(false) => Comparison::Agrees(format!(
            "on; the organization gets its public key when the node starts: {}",
            key.fingerprint()
        )),
        Err(why) => Comparison::Disagrees(why),
    })
}
