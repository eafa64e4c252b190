//! The type of a plain YAML value by the rules of YAML 1.1, as the regular node's library reads it.
//!
//! So `yes` is true, `017` is 15, `1:30` is 90, and `1e5` is a text. Environment variables get Python's spelling of the value (`True`,
//! `90`), since algorithms see that on a regular node.

use super::yaml::{Node, Value};

/// A value with its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

impl Node {
    /// The typed value, if this is a scalar.
    pub(super) fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.value {
            Value::Scalar { text, plain: true } => Some(resolve(text)),
            Value::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The value as written, for settings that must not be shown in a message.
    pub(super) fn secret(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Whether the value asks for anything. Null, false, 0, empty values and collections of these do not.
    pub(super) fn asks(&self) -> bool {
        match &self.value {
            Value::List(items) => items.iter().any(Self::asks),
            Value::Map(entries) => entries.iter().any(|entry| entry.value.asks()),
            Value::Scalar { .. } => !matches!(
                self.scalar(),
                None | Some(Scalar::Null | Scalar::Bool(false) | Scalar::Int(0) | Scalar::Text(""))
            ),
        }
    }

    /// Whether the value is null.
    pub(super) fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }
}

impl Scalar<'_> {
    /// Python's `str()` of the value.
    pub(super) fn python(self) -> String {
        match self {
            Self::Null => "None".to_owned(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => python_float(number),
            Self::Text(text) => text.to_owned(),
        }
    }
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Bool(false),
        _ => int(text).map(Scalar::Int).or_else(|| float(text).map(Scalar::Float)).unwrap_or(Scalar::Text(text)),
    }
}

fn signed(text: &str) -> (i8, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn int(text: &str) -> Option<i128> {
    let (sign, digits) = signed(text);
    let number = match digits {
        "0" => 0,
        _ if digits.starts_with("0b") => radix(&digits[2..], 2)?,
        _ if digits.starts_with("0x") => radix(&digits[2..], 16)?,
        _ if digits.starts_with('0') => radix(&digits[1..], 8)?,
        _ if digits.contains(':') => sixties(digits)?,
        _ if digits.starts_with('_') => return None,
        _ => radix(digits, 10)?,
    };
    Some(i128::from(sign) * number)
}

fn radix(digits: &str, base: u32) -> Option<i128> {
    // `from_str_radix` would accept a sign here.
    let digits: String = digits.chars().filter(|&c| c != '_').collect();
    let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
    all.then(|| i128::from_str_radix(&digits, base).ok())?
}

/// Parses numbers to the base of 60, as in `1:30`.
fn sixties(text: &str) -> Option<i128> {
    let mut parts = text.split(':');
    let mut number = radix(parts.next().filter(|first| !first.starts_with('_'))?, 10)?;
    for part in parts {
        let digits = (1..=2).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit());
        let part: i128 = part.parse().ok().filter(|&part| digits && part < 60)?;
        number = number.checked_mul(60)?.checked_add(part)?;
    }
    Some(number)
}

fn float(text: &str) -> Option<f64> {
    let (sign, rest) = signed(text);
    let number = match rest {
        ".inf" | ".Inf" | ".INF" => f64::INFINITY,
        ".nan" | ".NaN" | ".NAN" if rest.len() == text.len() => f64::NAN,
        _ => {
            // A float needs a dot, and its exponent a sign.
            let (mantissa, exponent) = rest.split_once(['e', 'E']).map_or((rest, None), |(m, e)| (m, Some(e)));
            let (whole, fraction) = mantissa.split_once('.')?;
            let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit() || c == '_');
            let exponent_fits = exponent.is_none_or(|exponent| {
                exponent
                    .strip_prefix(['+', '-'])
                    .is_some_and(|e| !e.is_empty() && e.chars().all(|c| c.is_ascii_digit()))
            });
            let some = mantissa.contains(|c: char| c.is_ascii_digit()) && !whole.starts_with('_');
            if !(digits(whole) && digits(fraction) && exponent_fits && some) {
                return None;
            }
            rest.replace('_', "").parse().ok()?
        }
    };
    Some(f64::from(sign) * number)
}

/// Python's `repr` of a float: the shortest digits with the same value, with an exponent only below 1e-4 and from 1e16 on.
fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number == 0.0 || (-4..16).contains(&exponent) {
        return format!("{number:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_of_yaml_1_1() {
        use Scalar::{Bool, Float, Int, Null, Text};
        let table = [
            ("", Null),
            ("~", Null),
            ("yes", Bool(true)),
            ("Off", Bool(false)),
            ("y", Text("y")),
            ("0", Int(0)),
            ("-12", Int(-12)),
            ("1_000", Int(1000)),
            ("017", Int(15)),
            ("08", Text("08")),
            ("0x1F", Int(31)),
            ("0b101", Int(5)),
            ("1:30", Int(90)),
            ("1:99", Text("1:99")),
            ("1.5", Float(1.5)),
            ("1.", Float(1.0)),
            (".5", Float(0.5)),
            ("1e5", Text("1e5")),
            ("1.0e5", Text("1.0e5")),
            ("1.0e+5", Float(100_000.0)),
            ("-.inf", Float(f64::NEG_INFINITY)),
            ("1.2.3", Text("1.2.3")),
            ("_", Text("_")),
            (".", Text(".")),
            ("-", Text("-")),
            ("+-1", Text("+-1")),
            ("1:", Text("1:")),
            ("99999999999999999999999999999999999999999", Text("99999999999999999999999999999999999999999")),
        ];
        for (text, expected) in table {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
    }

    #[test]
    fn values_for_algorithms_are_spelled_as_python_does() {
        let table = [
            ("yes", "True"),
            ("null", "None"),
            ("017", "15"),
            ("1.0", "1.0"),
            ("1.50", "1.5"),
            ("123456789012345680.0", "1.2345678901234568e+17"),
            ("1.0e-7", "1e-07"),
            ("0.0001", "0.0001"),
            ("-0.0", "-0.0"),
            (".NaN", "nan"),
            ("plain text", "plain text"),
        ];
        for (text, expected) in table {
            assert_eq!(resolve(text).python(), expected, "{text:?}");
        }
    }
}
