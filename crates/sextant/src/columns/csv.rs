//! The header of a csv file, parsed as pandas 2.3 does (`tokenizer.c`, and `_get_header` in `parsers.pyx`).
//!
//! The names don't depend on the rows below: if those have more fields, pandas takes the first fields as an index,
//! which is not a column.

use std::collections::HashMap;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns the column names of a csv file from its beginning, or from the `whole` file.
/// `None` if pandas would not read the file, or if more of it is needed.
pub fn names(head: &[u8], whole: bool) -> Option<Vec<String>> {
    let text = utf8(head, whole)?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    Some(unique(record(without_blank_lines(text)?, whole)?))
}

/// Decodes the text. Its end may cut a character in two if the file continues.
fn utf8(head: &[u8], whole: bool) -> Option<&str> {
    match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(error) if !whole && error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// Returns the text from the first nonblank line on; `None` where pandas fails.
fn without_blank_lines(text: &str) -> Option<&str> {
    let (mut line, mut after_carriage_return) = (text, false);
    loop {
        let rest = line.trim_start_matches([' ', '\t']);
        if let Some(next) = rest.strip_prefix('\n') {
            (line, after_carriage_return) = (next, false);
        } else if let Some(next) = rest.strip_prefix('\r') {
            // pandas skips a comma here like a line feed.
            (line, after_carriage_return) = match next.strip_prefix('\n') {
                Some(next) => (next, false),
                None => (next.strip_prefix(',').unwrap_or(next), true),
            };
        } else {
            // To parse the blanks after all, pandas goes back to the last line feed, over lines that it had skipped.
            let lost = after_carriage_return && rest.len() < line.len();
            return (!lost).then_some(line);
        }
    }
}

enum State {
    FieldStart,
    Field,
    Quoted,
    /// After a quotation mark within quotes: either the closing one, or the first of two that stand for one.
    QuoteInQuoted,
}

/// Returns the fields of the first record; `None` if there is none, or its end is missing.
fn record(text: &str, whole: bool) -> Option<Vec<String>> {
    let (mut fields, mut field, mut state) = (Vec::new(), String::new(), State::FieldStart);
    for character in text.chars() {
        state = match (state, character) {
            (State::Quoted, '"') => State::QuoteInQuoted,
            (State::Quoted, _) => {
                field.push(character);
                State::Quoted
            }
            (_, '\n' | '\r') => {
                fields.push(field);
                return Some(fields);
            }
            (_, ',') => {
                fields.push(std::mem::take(&mut field));
                State::FieldStart
            }
            (State::FieldStart, '"') => State::Quoted,
            (State::QuoteInQuoted, '"') => {
                field.push('"');
                State::Quoted
            }
            _ => {
                field.push(character);
                State::Field
            }
        };
    }
    let blank = text.chars().all(|character| " \t".contains(character));
    if !whole || blank || matches!(state, State::Quoted) {
        return None;
    }
    fields.push(field);
    Some(fields)
}

/// Names the columns without a name, and renames those with a duplicate name. Given names take precedence.
fn unique(fields: Vec<String>) -> Vec<String> {
    let given = |field: &str| field.split('\0').next().unwrap_or_default().to_owned();
    let fields: Vec<String> = fields.iter().map(|field| given(field)).collect();
    let (named, unnamed): (Vec<usize>, Vec<usize>) = (0..fields.len()).partition(|&i| !fields[i].is_empty());
    let mut names = fields;
    for &column in &unnamed {
        names[column] = format!("Unnamed: {column}");
    }
    // How many columns have each name now, and how often each name was given or requested.
    let mut present: HashMap<String, usize> = HashMap::new();
    for name in &names {
        *present.entry(name.clone()).or_default() += 1;
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for column in named.into_iter().chain(unnamed) {
        let wanted = names[column].clone();
        let (mut name, mut count) = (wanted.clone(), counts.get(&wanted).copied().unwrap_or(0));
        while count > 0 {
            counts.insert(wanted.clone(), count + 1);
            name = format!("{wanted}.{count}");
            count = if present.get(&name).is_some_and(|&columns| columns > 0) {
                count + 1
            } else {
                counts.get(&name).copied().unwrap_or(0)
            };
        }
        if name != wanted {
            if let Some(columns) = present.get_mut(&wanted) {
                *columns -= 1;
            }
            *present.entry(name.clone()).or_default() += 1;
            names[column].clone_from(&name);
        }
        counts.insert(name, count + 1);
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The expected names are those of pandas 2.3.3.
    #[test]
    fn columns_are_called_as_pandas_calls_them() {
        let table: &[(&[u8], &[&str])] = &[
            (b"id,age\n1,2\n", &["id", "age"]),
            (b"\"\",age,sex\n\"1\",3,m\n", &["Unnamed: 0", "age", "sex"]),
            (b"id,age,age\n", &["id", "age", "age.1"]),
            (b"id,age,\n1,2,\n", &["id", "age", "Unnamed: 2"]),
            (b"age,age,age.1\n", &["age", "age.2", "age.1"]),
            (b"age,age.1,age\n", &["age", "age.1", "age.2"]),
            (b"age.1,age,age,age.1\n", &["age.1", "age", "age.2", "age.1.1"]),
            (b",a,\n", &["Unnamed: 0", "a", "Unnamed: 2"]),
            (b",\n", &["Unnamed: 0", "Unnamed: 1"]),
            (b"\"\"\n", &["Unnamed: 0"]),
            (b"Unnamed: 1,,a\n", &["Unnamed: 1", "Unnamed: 1.1", "a"]),
            (b",Unnamed: 0\n", &["Unnamed: 0.1", "Unnamed: 0"]),
            (b"a,,Unnamed: 1,Unnamed: 1\n", &["a", "Unnamed: 1.2", "Unnamed: 1", "Unnamed: 1.1"]),
            (b"a,b\n1,2,3\n", &["a", "b"]),
            (b"a,b\n1,2,3,4\n", &["a", "b"]),
            (b"a,b,c\n1\n", &["a", "b", "c"]),
            (b",a\n1,2,3\n", &["Unnamed: 0", "a"]),
            (b"\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\n", &["a,b", "say \"x\"", "two\nlines"]),
            (b"\"a\"x,b\"c\",\" d\"\n", &["ax", "b\"c\"", " d"]),
            (b" a , b\n1,2\n", &[" a ", " b"]),
            (b"\"a\r\nb\",c\r\n1,2\r\n", &["a\r\nb", "c"]),
            (b"\xef\xbb\xbfid,age\n", &["id", "age"]),
            (b"\xef\xbb\xbf\"id\",age\n", &["id", "age"]),
            (b"\xef\xbb\xbf\n\nid\n", &["id"]),
            (b"a,\xef\xbb\xbfb\n", &["a", "\u{feff}b"]),
            (b"\n \n\t\n\nid,age\n", &["id", "age"]),
            (b"\r\n\r\nid,age\r\n", &["id", "age"]),
            (b"\r\rid,age\r1,2\r", &["id", "age"]),
            (b"  id,age\n", &["  id", "age"]),
            (b" ,\t\n", &[" ", "\t"]),
            (b" , \n", &[" ", " .1"]),
            (b"id;age\n1;2\n", &["id;age"]),
            (b"id\tage\n", &["id\tage"]),
            (b"a,b", &["a", "b"]),
            (b"a", &["a"]),
            (b"a\0b,c\n", &["a", "c"]),
            (b"\0,a\n", &["Unnamed: 0", "a"]),
            (b"et\xc3\xa0,\xe5\x90\x8d\xe5\x89\x8d,\xf0\x9f\x98\x80\n", &["et\u{e0}", "\u{540d}\u{524d}", "\u{1f600}"]),
            (b"# a,b\n", &["# a", "b"]),
            (b"1,2\n3,4\n", &["1", "2"]),
            (b"1,1.0,NA,NA\n", &["1", "1.0", "NA", "NA.1"]),
            // pandas drops a comma after a blank line that ends with only a carriage return.
            (b"\r,a\r1\r", &["a"]),
        ];
        for (content, expected) in table {
            let shown = String::from_utf8_lossy(content);
            assert_eq!(
                names(content, true).as_deref(),
                Some(&expected.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()[..]),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn where_pandas_reads_nothing_nothing_is_told() {
        let table: [&[u8]; 9] = [
            b"",
            b"\n\n",
            b"  \n\t",
            b"\xef\xbb\xbf",
            b"a,\"b\n1,2\n",
            // Encodings other than UTF-8.
            b"na\xefve,b\n",
            b"a,b\nna\xefve,1\n",
            b"\xff\xfea\0,\0b\0\n\0",
            // pandas misreads this text.
            b"\r a\r1\r",
        ];
        for content in table {
            assert_eq!(names(content, true), None, "{:?}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn the_beginning_of_a_file_is_enough_if_the_header_ends_in_it() {
        let table: [(&[u8], bool); 6] = [
            (b"id,age\n", true),
            (b"id,age\n1,\"x", true),
            (b"id,age\n1,\xe5\x90", true),
            (b"id,age", false),
            (b"id,\"age\n", false),
            (b"  \n", false),
        ];
        for (content, known) in table {
            let expected = known.then(|| vec!["id".to_owned(), "age".to_owned()]);
            assert_eq!(names(content, false), expected, "{:?}", String::from_utf8_lossy(content));
        }
    }

    proptest! {
        #[test]
        fn no_name_is_empty_or_given_twice(header in "(a|b|a\\.1|Unnamed: [0-2]|\"\"|\"a\"|,){0,30}", rest in any::<Vec<u8>>()) {
            let content = [b"x,", header.as_bytes(), b"\n"].concat();
            let told = names(&content, true).unwrap();
            let mut others = told.clone();
            others.sort_unstable();
            others.dedup();
            prop_assert_eq!(others.len(), told.len());
            prop_assert!(!told.contains(&String::new()));
            let _ = names(&rest, true);
        }
    }
}
