//! `sextant keys`: creates an organization's key pair, prints the public key in the server's format, and compares a node's key
//! with the server's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use printable::excerpt;
use secrecy::ExposeSecret;
use sextant_config::{Config, read_private_key};
use sextant_core::node_error::NodeError;
use sextant_hub::encryption::{Disagreement, agree, has_key};
use vantage6::encryption::{PrivateKey, PublicKey};
use vantage6::{Client, OrganizationId};

/// The commands of `sextant keys`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a key pair (RSA, 4096 bits) as a PEM file that only you can read. Never overwrites a file.
    #[command(after_help = "Example:\n  sextant keys new private_key.pem")]
    New {
        /// The file to create.
        file: PathBuf,
    },
    /// Print the public key of a private key in the server's format (`public_key` of an organization).
    #[command(after_help = "Example:\n  sextant keys show private_key.pem")]
    Show {
        /// The private key, a PEM file.
        file: PathBuf,
    },
    /// Log in as a node, and compare its private key with the organization's public key at the server.
    ///
    /// Exit codes: 0 they match, 2 configuration wrong, 3 they don't match, 1 any other error.
    #[command(after_help = "Examples:\n  sextant keys check node.yaml\n  sextant keys check node.yaml --replace")]
    Check {
        /// The node's configuration file.
        config: PathBuf,
        /// Replace the organization's public key at the server with this node's. Only the old private key can read
        /// what was
        /// encrypted for the old public key.
        #[arg(long)]
        replace: bool,
    },
}

/// Runs a command. Returns the text for standard output.
///
/// # Errors
/// What went wrong and what to do.
pub fn run(command: Command) -> Result<String, NodeError> {
    match command {
        Command::New { file } => new(&file),
        Command::Show { file } => {
            let key = read_private_key(&file).map_err(NodeError::Configuration)?;
            Ok(key.public().to_server())
        }
        Command::Check { config, replace } => {
            let config = Config::load(&config).map_err(|error| NodeError::Configuration(error.to_string()))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| NodeError::Other(format!("the process can't be set up: {error}")))?;
            runtime.block_on(check(&config, replace))
        }
    }
}

fn new(path: &Path) -> Result<String, NodeError> {
    let failed = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::AlreadyExists => "A file with this name exists already, and Sextant never overwrites a key.",
            _ => "Check the path and who may write there.",
        };
        NodeError::Other(format!("Could not create {}: {error}. {advice}", path.display()))
    };
    // Opened first, so that a failure shows before the second that generating a key takes.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    match make(&mut file) {
        Ok(key) => Ok(format!(
            "Created {path}, a private key that only you may read. Its fingerprint is\n  {fingerprint}\n\nIn the \
             configurations of all nodes of this organization:\n\n  encryption:\n    enabled: true\n    private_key: \
             {path}\n\nIts users need the same file (client.setup_encryption). A node uploads the public key to the \
             server when it starts, if the organization has none there yet. Keep a copy in a safe place: without \
             this file, nobody can read what was encrypted for the organization.",
            path = path.display(),
            fingerprint = key.public().fingerprint(),
        )),
        Err(error) => {
            // A partial key is useless.
            let _ = fs::remove_file(path);
            Err(failed(error))
        }
    }
}

fn make(file: &mut File) -> io::Result<PrivateKey> {
    let key = PrivateKey::generate().map_err(io::Error::other)?;
    file.write_all(key.to_pem().map_err(io::Error::other)?.expose_secret().as_bytes())?;
    file.sync_all()?;
    Ok(key)
}

async fn check(config: &Config, replace: bool) -> Result<String, NodeError> {
    let cryptor = config.encryption.cryptor().map_err(NodeError::Configuration)?;
    let client = sextant_hub::client(config)?;
    let of_server = |error: vantage6::Error| match error {
        error @ vantage6::Error::WrongApiKey { .. } => NodeError::Refused(error.to_string()),
        error => NodeError::Other(format!("Could not ask the server at {}: {error}.", client.url())),
    };
    let me = client.whoami().await.map_err(of_server)?;
    let collaboration = client.collaboration(me.collaboration).await.map_err(of_server)?;
    let refused = |why: Disagreement| NodeError::Refused(why.to_string());
    let Some(key) = agree(&cryptor, &collaboration).map_err(refused)? else {
        return Ok(format!(
            "They agree: the collaboration '{}' is not encrypted, and needs no keys.",
            excerpt(&collaboration.name)
        ));
    };
    let organization = client.organization(me.organization).await.map_err(of_server)?;
    match has_key(&organization, key) {
        Ok(true) => Ok(format!(
            "They agree: the private key belongs to the public key that organization {} '{}' has at the server ({}).",
            organization.id,
            excerpt(&organization.name),
            key.fingerprint()
        )),
        _ if replace => put(&client, organization.id, key).await.map_err(of_server),
        Ok(false) => Ok(format!(
            "Organization {} '{}' has no public key at the server yet; the node uploads it when it starts.",
            organization.id,
            excerpt(&organization.name)
        )),
        Err(why) => Err(refused(why)),
    }
}

async fn put(client: &Client, organization: OrganizationId, key: &PublicKey) -> Result<String, vantage6::Error> {
    client.set_public_key(organization, &key.to_server()).await?;
    Ok(format!(
        "Organization {organization} has this key at the server now: {}. Restart its nodes with the same private key, and give it to its \
         users; what was encrypted for another key can't be read with it.",
        key.fingerprint()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_key_is_its_owners_alone_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("private_key.pem");
        let said = new(&file).unwrap();
        let key = read_private_key(&file).unwrap();
        assert!(said.contains(&key.public().fingerprint()), "{said}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read(&file).unwrap();

        let error = new(&file).unwrap_err().to_string();
        assert!(error.contains("never overwrites a key"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), text);
        assert_eq!(run(Command::Show { file: file.clone() }).unwrap(), key.public().to_server());

        let error = new(&folder.path().join("nowhere/key")).unwrap_err().to_string();
        assert!(error.contains("Check the path"), "{error}");
        let error = run(Command::Show { file: folder.path().join("nothing") }).unwrap_err().to_string();
        assert!(error.contains("nothing can't be used: No such file"), "{error}");
        fs::write(&file, vec![b'x'; 100_000]).unwrap();
        assert!(read_private_key(&file).unwrap_err().contains("far too large"));
        for word in ["PRIVATE", "PUBLIC"] {
            assert!(!said.contains(word), "{said}");
        }
    }
}
