//! The output of commands. All output passes through here, so that no text from other parties controls the terminal, and a closed pipe
//! (`sextant doctor node.yaml | head`) ends the command quietly.

use std::io::{self, ErrorKind, Write};

/// The exit code if the reader has closed the pipe: that of a process killed by SIGPIPE, as other commands have it.
pub const READER_GONE: u8 = 128 + 13;

/// The result of printing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Printed {
    /// The text was printed.
    Yes,
    /// The reader has closed the pipe.
    ReaderGone,
}

/// Prints text with several lines on standard output.
pub fn print(text: &str) -> Printed {
    print_to(&mut io::stdout().lock(), &printable::lines(text))
}

/// Prints one row on standard output. The text can't add another row.
pub fn print_row(text: &str) -> Printed {
    print_to(&mut io::stdout().lock(), &format!("{}\n", printable::line(text)))
}

/// Prints the reason for a failure on standard error. If that fails, the exit code still shows the failure.
pub fn print_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable::lines(text));
}

fn print_to(out: &mut impl Write, text: &str) -> Printed {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Printed::Yes,
        Err(error) => {
            if error.kind() != ErrorKind::BrokenPipe {
                print_error(&format!("Could not print the output: {error}"));
            }
            Printed::ReaderGone
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe whose reader has closed it.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_panic() {
        assert_eq!(print_to(&mut Gone, "text"), Printed::ReaderGone);
        let mut out = Vec::new();
        assert_eq!(print_to(&mut out, "text"), Printed::Yes);
        assert_eq!(out, b"text");
    }
}
