//! Numbers, compared by the value that their digits spell.

/// Whether two JSON numbers are equal, exactly: `1`, `1.0` and `1e0` are, 2^64 and 2^64 + 1 are
/// not. `false` where one of them is not a number.
pub(crate) fn equal(a: &str, b: &str) -> bool {
    matches!((Decimal::parse(a), Decimal::parse(b)), (Some(a), Some(b)) if a == b)
}

/// `digits` times ten to the power of `exponent`, with no zero at either end of the digits.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i128,
}

impl Decimal {
    /// `None` for what is not a number, or has an exponent beyond 64 bits.
    fn parse(number: &str) -> Option<Self> {
        let (negative, rest) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
        if !rest.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_matches('0');
        if significant.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let trailing = digits.len() - digits.trim_end_matches('0').len();
        let exponent = i128::from(exponent.parse::<i64>().ok()?) + trailing as i128 - fraction.len() as i128;
        Some(Self { negative, digits: significant.to_owned(), exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_the_same_however_they_are_written() {
        for (a, b) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("100", "1E+2"),
            ("-0.50", "-5e-1"),
            ("0", "-0.0e9"),
            ("0", "0e99999999999999999999"),
            ("18446744073709551616", "1.8446744073709551616e19"),
        ] {
            assert!(equal(a, b) && equal(b, a), "{a} {b}");
        }
    }

    #[test]
    fn different_values_are_not_whatever_their_size() {
        let long = "9".repeat(60);
        for (a, b) in [
            ("1", "-1"),
            ("1", "10"),
            ("0.1", "0.01"),
            ("18446744073709551616", "18446744073709551617"),
            ("18446744073709551616.0", "18446744073709551617"),
            ("1e400", "1e500"),
            ("1e99999999999999999999", "1e99999999999999999998"),
            (&format!("{long}1"), &format!("{long}2")),
            ("true", "true"),
            ("\"1\"", "1"),
        ] {
            assert!(!equal(a, b) && !equal(b, a), "{a} {b}");
        }
    }
}
