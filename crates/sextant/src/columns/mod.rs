//! The column names of file databases, which the node shares with the server so that the web interface can offer
//! them. They are the names that algorithms see, which are those of pandas: `read_csv` and `read_parquet`
//! without arguments (vantage6-algorithm-tools 4.5.5, `wrappers.py`).
//!
//! A regular node shares them only for csv files, and reads the whole file for that (vantage6-node 4.5.5,
//! `get_column_names`). This node reads the first mebibyte of a csv file, and the footer of a Parquet file.

mod csv;
mod parquet;
mod thrift;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sextant_config::{Database, DatabaseType};

/// How many bytes of a csv file are read, after decompression.
const HEAD: u64 = 1024 * 1024;

/// Returns the column names of a database, or `None` if this process can't read them.
pub fn of(database: &Database) -> Option<Vec<String>> {
    let path = Path::new(&database.uri);
    // Opening a pipe would wait for its other end.
    if !database.is_file() || !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return None;
    }
    let columns = match database.kind {
        DatabaseType::Csv => csv_columns(path),
        DatabaseType::Parquet => parquet::names(File::open(path).ok()?),
        _ => None,
    };
    columns.filter(|columns| !columns.is_empty())
}

fn csv_columns(path: &Path) -> Option<Vec<String>> {
    let file = File::open(path).ok()?;
    let content: Box<dyn Read> = match Compression::of(path) {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
        Compression::Other => return None,
    };
    let mut head = Vec::new();
    content.take(HEAD).read_to_end(&mut head).ok()?;
    csv::names(&head, (head.len() as u64) < HEAD)
}

/// The compression of a csv file, which pandas derives from the name.
enum Compression {
    None,
    Gzip,
    /// A format that is not supported here.
    Other,
}

impl Compression {
    fn of(path: &Path) -> Self {
        let name = path.to_string_lossy().to_lowercase();
        let ends_with = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends_with(&[".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".bz2", ".zip", ".xz", ".zst"]) {
            Self::Other
        } else if ends_with(&[".gz"]) {
            Self::Gzip
        } else {
            Self::None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;

    use super::*;

    fn database(kind: DatabaseType, path: &Path) -> Database {
        Database {
            label: "default".into(),
            uri: path.to_str().unwrap().into(),
            kind,
            env: Default::default(),
            mount_mode: Default::default(),
        }
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// The column names of a file with this name and content.
    fn told(kind: DatabaseType, name: &str, content: &[u8]) -> Option<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        of(&database(kind, &path))
    }

    #[test]
    fn the_name_of_a_file_says_how_it_is_compressed() {
        let plain = b"id,age,age\n1,2,3\n".as_slice();
        let members = [gzip(b"id,age"), gzip(b",age\n1,2,3\n")].concat();
        let (names, cut) = (["id", "age", "age.1"].map(str::to_owned).to_vec(), &gzip(plain)[..15]);
        for (name, content, expected) in [
            ("a.csv", plain, true),
            ("a", plain, true),
            ("a.csv.gz", &gzip(plain), true),
            ("a.CSV.GZ", &gzip(plain), true),
            ("two-members.csv.gz", &members, true),
            ("cut.csv.gz", cut, false),
            ("not-compressed.csv.gz", plain, false),
            ("compressed.csv", &gzip(plain), false),
            ("a.tar.gz", &gzip(plain), false),
            ("a.csv.zip", plain, false),
            ("a.csv.bz2", plain, false),
            ("a.csv.xz", plain, false),
            ("a.csv.zst", plain, false),
        ] {
            let expected = expected.then(|| names.clone());
            assert_eq!(told(DatabaseType::Csv, name, content), expected, "{name}");
        }
        assert_eq!(told(DatabaseType::Excel, "a.xlsx", plain), None);
        let parquet = include_bytes!("testdata/nested.parquet");
        let columns = ["id", "nested", "list", "last"].map(str::to_owned).to_vec();
        assert_eq!(told(DatabaseType::Parquet, "a.parquet", parquet), Some(columns));
    }

    #[test]
    fn a_large_file_costs_its_first_mebibyte() {
        let rows = b"1,2\n".repeat(1024 * 1024);
        let large = [b"id,age\n".as_slice(), &rows].concat();
        let names = Some(vec!["id".to_owned(), "age".to_owned()]);
        assert_eq!(told(DatabaseType::Csv, "a.csv", &large), names);
        assert_eq!(told(DatabaseType::Csv, "a.csv.gz", &gzip(&large)), names);
        // The header is longer than the part that is read.
        assert_eq!(told(DatabaseType::Csv, "a.csv", &b"name,".repeat(1024 * 1024)), None);
    }

    #[test]
    fn what_cannot_be_read_here_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.csv");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let known = ["/no/such/file.csv", "https://example.org/x.csv", "/proc/self/mem", "/proc"];
        for path in known.map(Path::new).into_iter().chain([pipe.as_path()]) {
            for kind in [DatabaseType::Csv, DatabaseType::Parquet] {
                assert_eq!(of(&database(kind, path)), None, "{path:?}");
            }
        }
    }
}
