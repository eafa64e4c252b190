//! The column names of a Parquet file as `pandas.read_parquet` returns them, from the file's footer.
//!
//! Only the footer is read. Of the footer, only the schema and pandas' metadata about its index are kept in memory
//! (`FileMetaData` in parquet-format's `parquet.thrift`).

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use serde::Deserialize;

use super::thrift::{Kind, Thrift, malformed};

/// The end of a file that is not encrypted.
const MAGIC: &[u8; 4] = b"PAR1";
/// The size of the footer's length and the magic.
const TAIL: u64 = 8;
/// The longest footer that is read, in bytes.
const FOOTER: u64 = 64 * 1024 * 1024;
/// The most columns.
const COLUMNS: usize = 65_536;
/// The most bytes of all names.
const NAMES: u64 = 1024 * 1024;
/// The most bytes of a key in the metadata.
const KEY: u64 = 1024 * 1024;
/// The most bytes of pandas' entry in the metadata.
const PANDAS: u64 = 16 * 1024 * 1024;

/// Returns a file's column names; `None` if it is not a Parquet file with a footer within the limits.
pub fn names(file: impl Read + Seek) -> Option<Vec<String>> {
    footer(file).and_then(read).ok()
}

/// Returns the bytes of the footer.
fn footer<F: Read + Seek>(mut file: F) -> io::Result<impl Read> {
    let end = file.seek(SeekFrom::End(0))?.checked_sub(TAIL).ok_or_else(malformed)?;
    file.seek(SeekFrom::Start(end))?;
    let mut tail = [0; TAIL as usize];
    file.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if magic != *MAGIC || length > FOOTER {
        return Err(malformed());
    }
    file.seek(SeekFrom::Start(end.checked_sub(length).ok_or_else(malformed)?))?;
    Ok(BufReader::new(file).take(length))
}

fn read(footer: impl Read) -> io::Result<Vec<String>> {
    let (mut schema, mut index) = (Schema::default(), HashSet::new());
    Thrift::new(footer).fields(|thrift, field, kind| match (field, kind) {
        (2, Kind::List) => each(thrift, |thrift| schema.element(thrift)),
        (5, Kind::List) => each(thrift, |thrift| {
            if let Some(pandas) = pandas_entry(thrift)? {
                index = index_columns(&pandas)?;
            }
            Ok(())
        }),
        _ => thrift.skip(kind),
    })?;
    let mut names = schema.columns()?;
    // pandas does not read a file with duplicate column names either.
    if names.iter().collect::<HashSet<_>>().len() < names.len() {
        return Err(malformed());
    }
    names.retain(|name| !index.contains(name));
    Ok(names)
}

/// Reads a list of structs.
fn each<R: Read>(thrift: &mut Thrift<R>, mut element: impl FnMut(&mut Thrift<R>) -> io::Result<()>) -> io::Result<()> {
    match thrift.list()? {
        (length, Kind::Struct) => (0..length).try_for_each(|_| element(thrift)),
        _ => Err(malformed()),
    }
}

/// The schema: a tree in which each element comes before its children. The root's children are the columns.
#[derive(Default)]
struct Schema {
    /// The number of columns; known after the root.
    expected: Option<u64>,
    columns: Vec<String>,
    /// How many elements below the last column are still to come.
    below: u64,
    bytes: u64,
}

impl Schema {
    fn element<R: Read>(&mut self, thrift: &mut Thrift<R>) -> io::Result<()> {
        let (mut name, mut children) = (String::new(), 0);
        thrift.fields(|thrift, field, kind| {
            match (field, kind) {
                (4, Kind::Text) => name = thrift.text(NAMES)?,
                (5, Kind::Integer) => children = u64::try_from(thrift.integer()?).map_err(|_| malformed())?,
                _ => thrift.skip(kind)?,
            }
            Ok(())
        })?;
        if self.expected.is_none() {
            self.expected = Some(children);
            return Ok(());
        }
        self.below = match self.below.checked_sub(1) {
            Some(others) => others.checked_add(children).ok_or_else(malformed)?,
            None => {
                self.bytes += name.len() as u64;
                self.columns.push(name);
                children
            }
        };
        if self.columns.len() > COLUMNS || self.bytes > NAMES { Err(malformed()) } else { Ok(()) }
    }

    fn columns(self) -> io::Result<Vec<String>> {
        let complete = self.below == 0 && self.expected == Some(self.columns.len() as u64);
        if complete { Ok(self.columns) } else { Err(malformed()) }
    }
}

/// Reads an entry of the metadata. Returns its value if pandas wrote it.
fn pandas_entry<R: Read>(thrift: &mut Thrift<R>) -> io::Result<Option<String>> {
    let (mut is_pandas, mut value) = (false, None);
    thrift.fields(|thrift, field, kind| {
        match (field, kind) {
            (1, Kind::Text) => is_pandas = thrift.text(KEY)? == "pandas",
            (2, Kind::Text) if is_pandas => value = Some(thrift.text(PANDAS)?),
            _ => thrift.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(value)
}

/// Returns the columns that pandas uses as the index.
fn index_columns(pandas: &str) -> io::Result<HashSet<String>> {
    #[derive(Deserialize)]
    struct Pandas {
        #[serde(default)]
        index_columns: Vec<IndexColumn>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum IndexColumn {
        Stored(String),
        /// A range of numbers, which is not stored as a column.
        Other(serde::de::IgnoredAny),
    }
    let pandas: Pandas = serde_json::from_str(pandas)?;
    let stored = |column| match column {
        IndexColumn::Stored(name) => Some(name),
        IndexColumn::Other(_) => None,
    };
    Ok(pandas.index_columns.into_iter().filter_map(stored).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// pandas with pyarrow: the column `id` is the index.
    const PANDAS_INDEX: &[u8] = include_bytes!("testdata/pandas-index.parquet");
    /// pandas with fastparquet: the column `id` is the index.
    const FASTPARQUET_INDEX: &[u8] = include_bytes!("testdata/fastparquet-index.parquet");
    /// pyarrow: structs and lists, without metadata of pandas.
    const NESTED: &[u8] = include_bytes!("testdata/nested.parquet");
    const ALL: [&[u8]; 3] = [PANDAS_INDEX, FASTPARQUET_INDEX, NESTED];

    fn told(file: &[u8]) -> Option<Vec<String>> {
        names(Cursor::new(file))
    }

    /// Makes a file with this footer.
    fn with_footer(footer: &[u8]) -> Vec<u8> {
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        [MAGIC.as_slice(), footer, &length, MAGIC].concat()
    }

    /// Makes the footer of a file with flat columns, whose root announces `root` columns.
    fn flat(root: u8, columns: &[&str]) -> Vec<u8> {
        let length = u8::try_from(columns.len() + 1).unwrap();
        let mut footer = vec![0x29, length << 4 | 12, 0x48, 1, b'r', 0x15, root * 2, 0];
        for column in columns {
            footer.extend([0x48, u8::try_from(column.len()).unwrap()]);
            footer.extend(column.as_bytes());
            footer.push(0);
        }
        footer.push(0);
        footer
    }

    #[test]
    fn the_columns_of_the_schema_are_told_but_for_the_index() {
        for (file, expected) in [
            (PANDAS_INDEX, vec!["full name", "et\u{e0}"]),
            (FASTPARQUET_INDEX, vec!["full name", "et\u{e0}"]),
            (NESTED, vec!["id", "nested", "list", "last"]),
            (&with_footer(&flat(2, &["a", "b"])), vec!["a", "b"]),
        ] {
            assert_eq!(told(file).unwrap(), expected);
        }
    }

    #[test]
    fn other_files_tell_nothing() {
        let encrypted = [&NESTED[..NESTED.len() - 4], b"PARE"].concat();
        let mut deep = vec![0x1c; 100_000];
        deep.push(0);
        for (what, file) in [
            ("empty", Vec::new()),
            ("short", b"PAR1".to_vec()),
            ("csv", b"id,name\n1,Ann\n".to_vec()),
            ("cut", NESTED[..NESTED.len() - 1].to_vec()),
            ("encrypted footer", encrypted),
            ("a footer longer than the file", [&[0xff, 0xff, 0, 0], MAGIC.as_slice()].concat()),
            ("a footer of 4 GiB", [&[0xff; 4], MAGIC.as_slice()].concat()),
            ("no footer", with_footer(b"")),
            ("two of one name", with_footer(&flat(2, &["a", "a"]))),
            ("a column too few", with_footer(&flat(3, &["a", "b"]))),
            ("a column too many", with_footer(&flat(1, &["a", "b"]))),
            ("a text that is not there", with_footer(&[0x29, 0x1c, 0x48, 0xff, 0xff, 0xff, 0xff, 0x0f])),
            ("nested without end", with_footer(&deep)),
        ] {
            assert_eq!(told(&file), None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_in_a_footer(footer in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = told(&with_footer(&footer));
        }

        #[test]
        fn a_damaged_file_is_no_harm(which in 0..ALL.len(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut file = ALL[which].to_vec();
            let at = at.index(file.len());
            file[at] = byte;
            let _ = told(&file);
            prop_assert_eq!(told(&ALL[which][..at]), None);
        }
    }
}
