//! A database: its label, where its data is, and its type.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::model::HiddenValues;

/// The folder in an algorithm's container for runs and for copies of databases.
const DATA_FOLDER: &str = "/mnt/data";

/// A data source that tasks request by its label.
#[derive(Clone, PartialEq)]
pub struct Database {
    /// The name that tasks ask for; an identifier.
    pub label: String,
    /// Where the data is: a path or an address. A path is absolute after [`Config::load`]. If `kubernetes.databases` gives the database a
    /// volume and the file gives no `uri`, it is the path in that volume.
    pub uri: String,
    /// The type of data.
    pub kind: DatabaseType,
    /// Parameters for algorithms that use this database, passed as `<LABEL>_DB_PARAM_<KEY>`. May contain passwords.
    pub env: BTreeMap<String, String>,
    /// Where a regular node would mount the database. On Kubernetes it is read-only in either mode.
    pub mount_mode: MountMode,
}

/// How a regular node (since 4.14) gives a database to algorithms. In Sextant it only decides the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountMode {
    /// The file is copied to the folder of runs.
    #[default]
    Copy,
    /// The file or folder itself is mounted beside that folder.
    ReadOnly,
}

impl Database {
    /// Whether [`uri`](Self::uri) is a path of a file or folder rather than the address of a server.
    ///
    /// A regular node checks whether the path exists. That is impossible for files on other machines, so the form decides here: a `uri`
    /// with a scheme (`postgresql://…`, `jdbc:…`) is an address. Otherwise, types that are always files are paths, and other types are
    /// paths if they begin with a slash.
    #[must_use]
    pub fn is_file(&self) -> bool {
        if has_scheme(&self.uri) {
            return false;
        }
        match self.kind {
            DatabaseType::Csv | DatabaseType::Parquet | DatabaseType::Excel | DatabaseType::Folder => true,
            DatabaseType::Sql | DatabaseType::Sparql | DatabaseType::Omop | DatabaseType::Other => {
                self.uri.starts_with('/')
            }
        }
    }

    /// Whether algorithms see a single file: neither an address nor a folder.
    #[must_use]
    pub fn is_single_file(&self, in_volume: bool) -> bool {
        (in_volume || self.is_file()) && self.kind != DatabaseType::Folder
    }

    /// The path of a file or folder in an algorithm's container, as on a regular node since 4.14: copies of files are in the folder of
    /// runs; folders and read-only mounts are beside it. `file` is the path of the data; its extension is kept.
    #[must_use]
    pub fn path_in_container(&self, file: &str) -> String {
        let (label, is_folder) = (&self.label, self.kind == DatabaseType::Folder);
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
        let suffix = extension.filter(|_| !is_folder).map_or_else(String::new, |extension| format!(".{extension}"));
        match self.mount_mode {
            MountMode::Copy if !is_folder => format!("{DATA_FOLDER}/{label}{suffix}"),
            MountMode::Copy | MountMode::ReadOnly => format!("/mnt/{label}{suffix}"),
        }
    }

    /// The [`uri`](Self::uri) for display, without possible passwords.
    #[must_use]
    pub fn uri_to_show(&self) -> String {
        if self.is_file() { self.uri.clone() } else { without_credentials(&self.uri) }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("label", &self.label)
            .field("uri", &self.uri_to_show())
            .field("kind", &self.kind)
            .field("env", &HiddenValues(&self.env))
            .field("mount_mode", &self.mount_mode)
            .finish()
    }
}

/// Whether a URI begins with a scheme of at least two letters (one letter is a Windows drive).
fn has_scheme(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| {
        scheme.len() > 1
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// Removes `user:password@` and everything after a question mark or semicolon, where some addresses have passwords too.
fn without_credentials(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("//") else {
        return "[address not shown]".to_owned();
    };
    // A password may contain any separator if it was not encoded, so the last @ counts.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("[secret]@", rest),
        None => ("", rest),
    };
    match rest.find(['?', ';']) {
        Some(end) => format!("{scheme}//{user}{}[…]", &rest[..end]),
        None => format!("{scheme}//{user}{rest}"),
    }
}

/// The types of databases in vantage6. Algorithms use the type to decide how to open a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseType {
    /// A file of comma-separated values.
    Csv,
    /// An Apache Parquet file.
    Parquet,
    /// A Microsoft Excel file.
    Excel,
    /// A database server that speaks SQL.
    Sql,
    /// A triple store.
    Sparql,
    /// A database in the OMOP common data model.
    Omop,
    /// A folder of files.
    Folder,
    /// Anything else.
    Other,
}

impl DatabaseType {
    /// All types, in the order of the documentation.
    pub const ALL: [Self; 8] =
        [Self::Csv, Self::Parquet, Self::Excel, Self::Sql, Self::Sparql, Self::Omop, Self::Folder, Self::Other];

    /// vantage6's name for the type, as in the configuration file and in `<LABEL>_DATABASE_TYPE`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Excel => "excel",
            Self::Sql => "sql",
            Self::Sparql => "sparql",
            Self::Omop => "omop",
            Self::Folder => "folder",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for DatabaseType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_addresses_are_told_apart_and_passwords_are_not_shown() {
        use DatabaseType::{Csv, Folder, Omop, Other, Sql};
        let table = [
            (Csv, "/data/people.csv", true, "/data/people.csv"),
            (Csv, "people.csv", true, "people.csv"),
            (Csv, "https://example.org/people.csv", false, "https://example.org/people.csv"),
            (Folder, "/data", true, "/data"),
            (Other, "/data/people.db", true, "/data/people.db"),
            (Sql, "postgresql://ada:p@ss/w0rd@db:5432/people", false, "postgresql://[secret]@db:5432/people"),
            (Omop, "jdbc:postgresql://db/people?user=ada&password=pw", false, "jdbc:postgresql://db/people[…]"),
            (Omop, "jdbc:sqlserver://db;user=ada;password=pw", false, "jdbc:sqlserver://db[…]"),
            (Sql, "Server=db;Uid=ada;Pwd=pw", false, "[address not shown]"),
        ];
        for (kind, uri, is_file, shown) in table {
            let database = Database {
                label: "l".into(),
                uri: uri.into(),
                kind,
                env: BTreeMap::new(),
                mount_mode: MountMode::Copy,
            };
            assert_eq!(database.is_file(), is_file, "{uri}");
            assert_eq!(database.uri_to_show(), shown, "{uri}");
        }
    }

    #[test]
    fn paths_in_the_container_are_those_of_a_regular_node() {
        use DatabaseType::{Csv, Folder, Other, Parquet, Sql};
        use MountMode::{Copy, ReadOnly};
        for (kind, mount_mode, file, expected) in [
            (Csv, Copy, "/data/people.csv", "/mnt/data/l.csv"),
            (Csv, ReadOnly, "/data/people.csv", "/mnt/l.csv"),
            (Csv, ReadOnly, "exports/people.csv.gz", "/mnt/l.gz"),
            (Parquet, ReadOnly, "/data/people", "/mnt/l"),
            (Sql, Copy, "/data/people.sqlite", "/mnt/data/l.sqlite"),
            (Other, ReadOnly, "/data/people.db", "/mnt/l.db"),
            (Folder, Copy, "/data/scans.v2", "/mnt/l"),
            (Folder, ReadOnly, "/data/scans.v2", "/mnt/l"),
        ] {
            let database = Database { label: "l".into(), uri: file.into(), kind, env: BTreeMap::new(), mount_mode };
            assert_eq!(database.path_in_container(file), expected, "{kind} {mount_mode:?} {file}");
        }
    }
}
