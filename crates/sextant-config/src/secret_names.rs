//! Decides which settings hold secrets, by their names and, if these leave it open, by the look of their values.
//!
//! A false positive masks a word in every log line; a false negative discloses a secret. So a name with `password` counts whatever its
//! value is, a name that ends in `schema` or `host` does not count, and for all others a value that reads like words, a path, a number or
//! a date is no secret.

/// What a setting's name says about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Secret,
    /// A secret, unless the value is harmless.
    Likely,
    Public,
    Nothing,
}

/// Parts of names, without separators and in lower case, that indicate a secret whatever else the name says.
const PASSWORD: [&str; 4] = ["passw", "passphrase", "passcode", "pwd"];
/// Parts that indicate a secret unless the name ends in a public word.
const SECRET: [&str; 13] = [
    "secret",
    "credential",
    "bearer",
    "apikey",
    "accesskey",
    "accountkey",
    "authkey",
    "encryptionkey",
    "licensekey",
    "masterkey",
    "privatekey",
    "sharedkey",
    "signingkey",
];
/// Ends of names that indicate a secret unless they are a public word.
const SECRET_END: [&str; 3] = ["token", "pass", "pw"];
/// Last words that may indicate a secret: there are primary keys, and there is `auth: kerberos`.
const LIKELY: [&str; 6] = ["key", "keys", "auth", "pin", "salt", "signature"];
/// Ends of names of paths. The secret is in the file, not in the setting.
const PLACE: [&str; 2] = ["file", "path"];
/// Last words of names with public values.
const PUBLIC: [&str; 76] = [
    "address",
    "bucket",
    "catalog",
    "charset",
    "class",
    "cluster",
    "cohort",
    "collection",
    "column",
    "columns",
    "concept",
    "database",
    "databases",
    "dataset",
    "date",
    "db",
    "dbms",
    "delimiter",
    "description",
    "dialect",
    "dir",
    "directory",
    "domain",
    "driver",
    "encoding",
    "endpoint",
    "engine",
    "field",
    "fields",
    "folder",
    "format",
    "graph",
    "group",
    "host",
    "hosts",
    "id",
    "index",
    "instance",
    "kind",
    "label",
    "language",
    "level",
    "limit",
    "locale",
    "login",
    "method",
    "mode",
    "name",
    "names",
    "namespace",
    "owner",
    "port",
    "ports",
    "prefix",
    "protocol",
    "query",
    "realm",
    "region",
    "role",
    "separator",
    "server",
    "service",
    "sheet",
    "sid",
    "size",
    "ssl",
    "sslmode",
    "suffix",
    "timeout",
    "timezone",
    "title",
    "type",
    "uid",
    "uri",
    "url",
    "user",
];
/// Last words that count even without a separator before them: `PGHOST`, `dbname`.
const PUBLIC_END: [&str; 13] = [
    "database", "dbname", "host", "hostname", "port", "schema", "schemas", "server", "table", "tables", "user",
    "username", "version",
];

/// Whether a database's parameter is a secret. If the name says nothing, it is one unless its value is harmless.
pub fn in_database(name: &str, value: &str) -> bool {
    match sign(name) {
        Sign::Secret => true,
        Sign::Public => false,
        Sign::Likely | Sign::Nothing => !is_harmless(value),
    }
}

/// Whether a variable of `algorithm_env` is a secret. If the name says nothing, it is not.
pub fn in_environment(name: &str, value: &str) -> bool {
    match sign(name) {
        Sign::Secret => true,
        Sign::Likely => !is_harmless(value),
        Sign::Public | Sign::Nothing => false,
    }
}

/// Names in an address's query, without separators and in lower case, that are always secrets: those of signed URLs.
const IN_ADDRESS: [&str; 7] =
    ["code", "key", "sig", "signature", "xamzcredential", "xamzsecuritytoken", "xamzsignature"];

/// Whether a setting in an address is a secret: `…?password=…`.
pub fn in_address(name: &str) -> bool {
    sign(name) == Sign::Secret || IN_ADDRESS.contains(&simple(name).as_str())
}

fn sign(name: &str) -> Sign {
    let (whole, last) = (simple(name), last_word(name));
    let (last, ends) = (last.as_str(), |ends: &[&str]| ends.iter().any(|end| whole.ends_with(end)));
    let has = |parts: &[&str]| parts.iter().any(|part| whole.contains(part));
    let is_public = PUBLIC.contains(&last) || ends(&PUBLIC_END);
    if ends(&PLACE) {
        Sign::Public
    } else if has(&PASSWORD) {
        Sign::Secret
    } else if has(&SECRET) || ends(&SECRET_END) {
        if is_public { Sign::Likely } else { Sign::Secret }
    } else if LIKELY.contains(&last) {
        Sign::Likely
    } else if is_public {
        Sign::Public
    } else {
        Sign::Nothing
    }
}

/// A name in lower case, without separators and trailing digits.
fn simple(name: &str) -> String {
    let name = name.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The last word of `CDM_SCHEMA`, `cdm-schema`, `cdmSchema` or `cdm_schema2`, in lower case.
fn last_word(name: &str) -> String {
    let name = name.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
    let mut start = 0;
    let mut before = ' ';
    for (at, character) in name.char_indices() {
        if !character.is_ascii_alphanumeric() {
            start = at + character.len_utf8();
        } else if character.is_ascii_uppercase() && before.is_ascii_lowercase() {
            start = at;
        }
        before = character;
    }
    name[start..].to_ascii_lowercase()
}

/// The longest word. Secrets that consist of letters are longer.
const WORD: usize = 16;

/// Whether a value reads like a path, a number, a date or words.
fn is_harmless(value: &str) -> bool {
    let number_or_date = value.chars().all(|c| c.is_ascii_digit() || "-+.,:/TZ ".contains(c));
    value.starts_with('/') || number_or_date || value.split([' ', '_', '-', '.', ',', ':', '/']).all(is_word)
}

/// Whether a text is a word: letters of one case, except for the first.
fn is_word(part: &str) -> bool {
    let mut letters = part.chars();
    letters.next();
    part.chars().count() <= WORD
        && part.chars().all(char::is_alphabetic)
        && (letters.clone().all(|c| !c.is_uppercase()) || part.chars().all(|c| !c.is_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_databases() {
        for (name, value, expected) in [
            // The name decides.
            ("password", "results", true),
            ("PGPASSWORD", "public", true),
            ("PASSWORD_DB", "public", true),
            ("db_pwd", "public", true),
            ("API_TOKEN", "results", true),
            ("clientSecret", "results", true),
            ("CDM_SCHEMA", "public", false),
            ("RESULTS_SCHEMA", "results", false),
            ("cdm_database_schema", "omop_v54", false),
            ("cdmSchema", "cdm54x", false),
            ("schema2", "cdm54x", false),
            ("VOCAB-SCHEMA", "vocab-2024", false),
            ("PGHOST", "db-3.example.org", false),
            ("dbname", "omop54", false),
            ("DB_PORT", "x54321", false),
            ("CDM_DATABASE", "omop_v54", false),
            ("db_user", "reader-1", false),
            ("client_id", "a8f3c9d1", false),
            ("COHORT_TABLE", "cohort_1", false),
            ("ENDPOINT_URL", "https://db-3.example.org/sparql", false),
            ("key_file", "keys/1.pem", false),
            // The name leaves it open, so the value decides.
            ("KEY", "a8f3c9d1", true),
            ("KEY", "person", false),
            ("primary_key", "person_id", false),
            ("TOKEN_SCHEMA", "results", false),
            ("SECRET_DB", "hunter-2", true),
            ("AUTH", "kerberos", false),
            ("odd_thing", "hunter-2", true),
            ("odd_thing", "correcthorsebatterystaple", true),
            ("odd_thing", "hFkQzPwXyBn", true),
            ("odd_thing", "public", false),
            ("odd_thing", "PUBLIC", false),
            ("odd_thing", "Amsterdam, Z\u{fc}rich", false),
            ("odd_thing", "2020-01-01", false),
            ("odd_thing", "/etc/ssl/ca.pem", false),
        ] {
            assert_eq!(in_database(name, value), expected, "{name}: {value}");
        }
    }

    #[test]
    fn variables_of_algorithms() {
        for (name, value, expected) in [
            ("HUGGINGFACE_TOKEN", "results", true),
            ("S3_KEY", "AKIA4EXAMPLE", true),
            ("SORT_KEY", "person_id", false),
            ("TOKENIZER", "bert-base-2", false),
            ("MODE", "mode-2", false),
            ("odd_thing", "hunter-2", false),
            ("PASSWORD_FILE", "/run/password", false),
        ] {
            assert_eq!(in_environment(name, value), expected, "{name}: {value}");
        }
    }
}
