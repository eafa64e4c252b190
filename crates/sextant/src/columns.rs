//! The names of the columns of file databases, which a regular node shares with the server so that the web
//! interface can offer them (vantage6-node 4.5.5, `share_node_details`): of csv files, where this process can read
//! them.

use std::fs::File;
use std::io::Read;

use sextant_config::{Database, DatabaseType};

/// How much of a file is looked at.
const HEAD: u64 = 1024 * 1024;

/// A database's columns; `None` when they are not known here.
pub fn of(database: &Database) -> Option<Vec<String>> {
    if database.kind != DatabaseType::Csv || !database.is_file() {
        return None;
    }
    let head = File::open(&database.uri).ok()?.take(HEAD);
    let columns: Vec<_> = csv::Reader::from_reader(head).headers().ok()?.iter().map(ToOwned::to_owned).collect();
    (!columns.is_empty()).then_some(columns)
}

#[cfg(test)]
mod tests {
    use crate::columns::*;
    use std::io::Write;

    fn database(kind: DatabaseType, uri: &str) -> Database {
        Database { label: "default".into(), uri: uri.into(), kind, env: Default::default() }
    }

    #[test]
    fn the_first_line_of_a_csv_file_names_them() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"id,\"full name\",age\n1,Ann,30\n").unwrap();
        let path = file.path().to_str().unwrap();
        let columns = ["id", "full name", "age"].map(str::to_owned).to_vec();
        assert_eq!(of(&database(DatabaseType::Csv, path)), Some(columns));
        assert_eq!(of(&database(DatabaseType::Excel, path)), None);
    }

    #[test]
    fn what_cannot_be_read_here_is_not_known() {
        for uri in ["/no/such/file.csv", "https://example.org/x.csv", "/proc/self/mem"] {
            assert_eq!(of(&database(DatabaseType::Csv, uri)), None, "{uri}");
        }
    }
}
