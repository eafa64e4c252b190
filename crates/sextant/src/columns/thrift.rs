//! Reads Thrift's compact protocol from a stream, and skips unrequested values without keeping them in memory.
//! A library would read all of a Parquet footer, most of which are the positions of its pages.

use std::io::{self, Read};

/// The deepest nesting of values. Parquet's own values are six levels deep.
const DEEPEST: u8 = 32;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A boolean; the value of a field is in the field's header.
    Bool,
    Byte,
    Integer,
    Double,
    Text,
    List,
    Map,
    Struct,
    Uuid,
}

impl Kind {
    fn of(nibble: u8) -> io::Result<Self> {
        Ok(match nibble {
            1 | 2 => Self::Bool,
            3 => Self::Byte,
            4..=6 => Self::Integer,
            7 => Self::Double,
            8 => Self::Text,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => return Err(malformed()),
        })
    }
}

/// Reads consecutive values.
pub struct Thrift<R>(R);

impl<R: Read> Thrift<R> {
    pub fn new(source: R) -> Self {
        Self(source)
    }

    /// Reads a struct: calls `read` with each field's number and kind, which reads or [skips](Self::skip) the value.
    pub fn fields(&mut self, mut read: impl FnMut(&mut Self, i64, Kind) -> io::Result<()>) -> io::Result<()> {
        let mut number = 0_i64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Ok(());
            }
            number = match header >> 4 {
                0 => self.integer()?,
                step => number.checked_add(i64::from(step)).ok_or_else(malformed)?,
            };
            match Kind::of(header & 15)? {
                // The value is in the header.
                Kind::Bool => {}
                kind => read(self, number, kind)?,
            }
        }
    }

    /// Reads the beginning of a list: the number of values that follow, and their kind.
    pub fn list(&mut self) -> io::Result<(u64, Kind)> {
        let header = self.byte()?;
        let length = match header >> 4 {
            15 => self.unsigned()?,
            length => u64::from(length),
        };
        match length {
            // Some writers omit the kind of an empty list.
            0 => Ok((0, Kind::Struct)),
            _ => Ok((length, Kind::of(header & 15)?)),
        }
    }

    pub fn integer(&mut self) -> io::Result<i64> {
        let zigzag = self.unsigned()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// Reads a text of at most `longest` bytes.
    pub fn text(&mut self, longest: u64) -> io::Result<String> {
        let length = self.unsigned()?;
        if length > longest {
            return Err(malformed());
        }
        let mut bytes = Vec::new();
        (&mut self.0).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(malformed());
        }
        String::from_utf8(bytes).map_err(|_| malformed())
    }

    pub fn skip(&mut self, kind: Kind) -> io::Result<()> {
        self.skip_within(kind, DEEPEST)
    }

    fn skip_within(&mut self, kind: Kind, depth: u8) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(malformed)?;
        match kind {
            Kind::Bool | Kind::Byte => self.pass_over(1),
            Kind::Integer => self.unsigned().map(drop),
            Kind::Double => self.pass_over(8),
            Kind::Uuid => self.pass_over(16),
            Kind::Text => {
                let length = self.unsigned()?;
                self.pass_over(length)
            }
            Kind::List => {
                let (length, kind) = self.list()?;
                (0..length).try_for_each(|_| self.skip_within(kind, depth))
            }
            Kind::Map => self.skip_map(depth),
            Kind::Struct => self.fields(|thrift, _, kind| thrift.skip_within(kind, depth)),
        }
    }

    fn skip_map(&mut self, depth: u8) -> io::Result<()> {
        let length = self.unsigned()?;
        if length == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        let (key, value) = (Kind::of(kinds >> 4)?, Kind::of(kinds & 15)?);
        (0..length).try_for_each(|_| {
            self.skip_within(key, depth)?;
            self.skip_within(value, depth)
        })
    }

    fn pass_over(&mut self, length: u64) -> io::Result<()> {
        match io::copy(&mut (&mut self.0).take(length), &mut io::sink())? {
            passed if passed == length => Ok(()),
            _ => Err(malformed()),
        }
    }

    fn unsigned(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(malformed())
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

pub fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
