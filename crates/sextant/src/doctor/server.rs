//! The server's side: is it there, does it know this node, and do they agree on encryption?

use printable::excerpt;
use sextant_config::Config;
use sextant_core::doctor_line::Line;
use sextant_hub::encryption::{Disagreement, agree, has_key};
use vantage6::encryption::Cryptor;
use vantage6::{Error, NodeId};

/// Looks at the server; gives the node's number if the server told it.
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
            me.id,
            excerpt(&me.name),
            me.organization,
            me.collaboration
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
    match compare(&cryptor, client, me).await {
        Ok(Ok(text)) => Line::ok(SUBJECT, text),
        Ok(Err(why)) => Line::wrong(SUBJECT, why.to_string()),
        Err(error) => Line::wrong(SUBJECT, format!("the server does not say what it has: {error}")),
    }
}

/// What configuration and server have; the inner error is for what does not fit.
async fn compare(
    cryptor: &Cryptor,
    client: &vantage6::Client,
    me: &vantage6::Node,
) -> Result<Result<String, Disagreement>, Error> {
    let collaboration = client.collaboration(me.collaboration).await?;
    let key = match agree(cryptor, &collaboration) {
        Ok(Some(key)) => key,
        Ok(None) => return Ok(Ok(format!("off, as in the collaboration '{}'", excerpt(&collaboration.name)))),
        Err(why) => return Ok(Err(why)),
    };
    let organization = client.organization(me.organization).await?;
    Ok(has_key(&organization, key).map(|has| match has {
        true => "on; the private key belongs to the organization's public key".to_owned(),
        false => format!("on; the organization gets its public key when the node starts: {}", key.fingerprint()),
    }))
}
