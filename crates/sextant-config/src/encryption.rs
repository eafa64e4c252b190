//! End-to-end encryption: the key `encryption:`, and the private key that it names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;
use vantage6::OrganizationId;
use vantage6::encryption::{Cryptor, PrivateKey};

use super::Surroundings;
use super::reader::{Section, Unknown};
use super::server::beside;
use super::trust::Subject;
use super::{names, policies};

/// The largest size of a key file, in bytes.
const LARGEST: usize = 64 * 1024;

/// End-to-end encryption of inputs and results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// Whether the collaboration is encrypted. Must match the server's setting.
    pub enabled: bool,
    /// The organization's private key, a PEM file. Always set if `enabled`.
    pub private_key: Option<PathBuf>,
    /// The server's number for the organization that owns the key. A public key can be copied, a number can't: if it is known, the proxy
    /// serves only this organization's algorithms.
    pub organization: Option<OrganizationId>,
}

impl Encryption {
    /// Sets the organization that the server reports for the node.
    ///
    /// # Errors
    /// If the configuration names another organization.
    pub fn of_organization(mut self, organization: OrganizationId) -> Result<Self, String> {
        match self.organization.replace(organization) {
            Some(named) if named != organization => Err(format!(
                "`encryption.organization_id` is {named}, but the node with this API key is of organization {organization}. Write {organization}, \
                 or use the API key of the other organization's node."
            )),
            _ => Ok(self),
        }
    }

    /// The cryptor for messages in this node's collaboration. Reads the key file.
    ///
    /// # Errors
    /// If the key file can't be used. The text says why, and what to do.
    pub fn cryptor(&self) -> Result<Cryptor, String> {
        match (&self.private_key, self.enabled) {
            (Some(path), true) => Ok(Cryptor::Encrypted(Arc::new(read_private_key(path)?))),
            (None, true) => Err(format!("`encryption.private_key` is missing. {ADVICE}")),
            (_, false) => Ok(Cryptor::Plain),
        }
    }
}

const NUMBER: &str = "the organization's number at the server, which `sextant doctor` shows";
const EXPECTED: &str = "the path of the organization's private key, a PEM file";
const ADVICE: &str = "Name the organization's PEM file there; `sextant keys new` makes one if it has none yet.";

/// Reads a private key. Only the key itself stays in memory.
///
/// # Errors
/// If the file can't be used.
pub fn read_private_key(path: &Path) -> Result<PrivateKey, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("The private key {} can't be used: {why}.", path.display());
    // Allocated at full size, since a growing vector leaves copies of the key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LARGEST + 1));
    let file = File::open(path).map_err(|error| wrong(&error))?;
    file.take(LARGEST as u64 + 1).read_to_end(&mut text).map_err(|error| wrong(&error))?;
    if text.len() > LARGEST {
        return Err(wrong(&"it is far too large for a key"));
    }
    PrivateKey::from_pem(&text).map_err(|error| wrong(&error))
}

/// Reports unknown keys. A key that is nearly a setting is an error, so that a typo can't drop `organization_id`.
fn refuse_slips(section: &Section<'_>) {
    let known = section.asked();
    for (key, field) in section.rest() {
        let is_slip = names::nearest(key, known.iter().copied()).is_some();
        field.unknown(key, &known, if is_slip { Unknown::Refuse } else { Unknown::Warn });
    }
}

/// Reads `encryption`.
pub(super) fn read(file: &Section<'_>, config: &Path, around: &Surroundings<'_>) -> Option<Encryption> {
    let Some(field) = file.given("encryption") else {
        return Some(Encryption::default());
    };
    if field.node.is_null() {
        field.refuse_empty();
        return None;
    }
    let section = field.section("a mapping with `enabled`, `private_key` and `organization_id`")?;
    let enabled = section.require("enabled", "true or false");
    let given = section.get("private_key").filter(|field| field.node.asks());
    let private_key = match &given {
        Some(field) => Some(beside(config, field.word(EXPECTED)?)),
        None => None,
    };
    let organization = section.given("organization_id").map_or(Some(None), |field| {
        let number: u64 = field.number(NUMBER)?;
        policies::decimal(&field, field.text(NUMBER)?)?;
        if number == 0 {
            field.wrong(NUMBER, "");
            return None;
        }
        Some(Some(OrganizationId(number)))
    });
    refuse_slips(&section);
    let enabled = enabled?.boolean()?;
    match (&private_key, &given) {
        (Some(path), Some(field)) if enabled => {
            if let Err(problem) = around.files.private_key(path) {
                field.wrong(EXPECTED, &problem);
            }
            let name = format!("`{}`", field.path);
            let subject = Subject { findings: field.findings, at: Some(field.key_at), name: &name };
            subject.must_be_ours(path, around);
            subject.must_be_secret(path, around);
        }
        _ if enabled => {
            let message = format!("`{}.private_key` is missing, expected {EXPECTED}. {ADVICE}", field.path);
            field.findings.error(field.key_at, message);
        }
        (_, Some(field)) => field.warn(
            "has no effect beside `enabled: false`: nothing is encrypted. Say `enabled: true` if the collaboration is.",
        ),
        _ => {}
    }
    Some(Encryption { enabled, private_key, organization: organization? })
}
