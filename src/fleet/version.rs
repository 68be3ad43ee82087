//! Versions, compared as dpkg compares them (Debian policy 5.6.12, deb-version(7)), and expressions over
//! them.
//!
//! A version is `[epoch:]upstream[-revision]`. Parts are compared piece by piece: a run without digits, then
//! a run of digits, in turn. Among non-digits, `~` sorts before everything, even the end; letters before
//! everything else. Runs of digits compare as numbers of any length. Any text is a version here, so that
//! versions of other package systems have an order as well, and one that never fails.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::wire::inventory::version_alone;
use crate::wire::named::ParseError;

/// Longest expression.
const COMPARISONS_MAX: usize = 16;

/// Compares two versions. A total order; different texts may be equal (`1.0` and `1.00`, `1` and `0:1-0`).
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    compare_number(a.epoch, b.epoch)
        .then_with(|| compare_part(a.upstream, b.upstream))
        .then_with(|| compare_part(a.revision, b.revision))
}

struct Parts<'a> {
    epoch: &'a [u8],
    upstream: &'a [u8],
    revision: &'a [u8],
}

fn parts(version: &str) -> Parts<'_> {
    // A package that is not wholly installed is still of this version.
    let version = version_alone(version.trim());
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
            (epoch, rest)
        }
        // A text before the colon that is no epoch is part of the version, as in other package systems.
        _ => ("", version),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    Parts { epoch: epoch.as_bytes(), upstream: upstream.as_bytes(), revision: revision.as_bytes() }
}

/// Compares two runs of digits as numbers.
fn compare_number(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Rank of a non-digit in the order; the end of the part is 0.
fn weight(byte: Option<&u8>) -> u32 {
    match byte {
        Some(b'~') => 0,
        None => 1,
        Some(digit) if digit.is_ascii_digit() => 1,
        Some(letter) if letter.is_ascii_alphabetic() => 2 + u32::from(*letter),
        Some(other) => 512 + u32::from(*other),
    }
}

fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let is_non_digit = |bytes: &[u8]| bytes.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while is_non_digit(a) || is_non_digit(b) {
            match weight(a.first()).cmp(&weight(b.first())) {
                // Equal weights are equal bytes here: the end and a digit meet only when neither is a
                // non-digit.
                Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
                unequal => return unequal,
            }
        }
        let (digits_a, digits_b) = (digits(a), digits(b));
        match compare_number(&a[..digits_a], &b[..digits_b]) {
            Ordering::Equal => (a, b) = (&a[digits_a..], &b[digits_b..]),
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Less,
    AtMost,
    Equal,
    NotEqual,
    AtLeast,
    Greater,
}

/// Two characters before one, so that `<=` is not read as `<`.
const OPERATORS: [(&str, Operator); 8] = [
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("!=", Operator::NotEqual),
    ("<<", Operator::Less),
    (">>", Operator::Greater),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("=", Operator::Equal),
];

/// Condition on a version: comparisons, separated by commas, that must all hold, such as `>=3.0,<3.0.14`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionExpression {
    comparisons: Vec<(Operator, String)>,
}

impl FromStr for VersionExpression {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let comparison = |part: &str| {
            let part = part.trim();
            let (symbol, operator) = OPERATORS.iter().find(|(symbol, _)| part.starts_with(symbol))?;
            let version = part[symbol.len()..].trim();
            let is_version = !version.is_empty() && !version.contains(['<', '>', '=', '!']);
            is_version.then(|| (*operator, version.to_owned()))
        };
        let comparisons: Option<Vec<_>> = text.split(',').take(COMPARISONS_MAX + 1).map(comparison).collect();
        match comparisons {
            Some(comparisons) if comparisons.len() <= COMPARISONS_MAX => Ok(Self { comparisons }),
            _ => Err(ParseError::is_not(
                text,
                "a version expression: <, <=, =, !=, >= or > and a version, at most 16 of them separated by commas, \
                 such as >=3.0,<3.0.14",
            )),
        }
    }
}

impl fmt::Display for VersionExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (operator, version)) in self.comparisons.iter().enumerate() {
            let symbol =
                OPERATORS.iter().rfind(|(_, known)| known == operator).map_or("", |(symbol, _)| symbol);
            write!(f, "{}{symbol}{version}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl VersionExpression {
    /// Whether every comparison holds for this version.
    #[must_use]
    pub fn holds_for(&self, version: &str) -> bool {
        self.comparisons.iter().all(|(operator, wanted)| {
            let order = compare(version, wanted);
            match operator {
                Operator::Less => order.is_lt(),
                Operator::AtMost => order.is_le(),
                Operator::Equal => order.is_eq(),
                Operator::NotEqual => order.is_ne(),
                Operator::AtLeast => order.is_ge(),
                Operator::Greater => order.is_gt(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_cases_of_dpkg() {
        // From dpkg's own tests (lib/dpkg/t/t-version.c) and deb-version(7).
        for (smaller, greater) in [
            ("1.0~rc1", "1.0"),
            ("1.0~~", "1.0~"),
            ("1.0~", "1.0"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+"),
            ("1.9", "1.10"),
            ("1.0-1", "1.0-2"),
            ("9.9", "1:0.1"),
            ("0:2", "1:1"),
            ("1.0", "1.0-1"),
            ("2.0-1ubuntu1", "2.0-1ubuntu1.1"),
            ("3.0.9-1", "3.0.14-1~deb12u1"),
            ("3.0.14-1~deb12u1", "3.0.14-1"),
            ("1.2.3-1~bpo", "1.2.3-1"),
            ("1a", "1b"),
            ("a", "a+"),
            ("7.6p2-4", "7.6-0"),
            ("1.0.3-3", "1.0-1"),
        ]
        .map(|(a, b)| {
            if matches!((a, b), ("7.6p2-4", "7.6-0") | ("1.0.3-3", "1.0-1")) { (b, a) } else { (a, b) }
        }) {
            assert_eq!(compare(smaller, greater), Ordering::Less, "{smaller} < {greater}");
            assert_eq!(compare(greater, smaller), Ordering::Greater, "{greater} > {smaller}");
        }
        for (a, b) in [("1.0", "1.00"), ("0:1", "1"), ("1", "1-0"), ("1.0-0", "1.0"), ("01", "1"), ("", "0")]
        {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} = {b}");
        }
        let long = "1".repeat(60);
        assert_eq!(compare(&long, &format!("{long}0")), Ordering::Less, "no number is too long");
    }

    #[test]
    fn expressions_are_read_and_shown() {
        let holds = |expression: &str, version: &str| {
            expression.parse::<VersionExpression>().unwrap().holds_for(version)
        };
        assert!(holds("<3.0.14", "3.0.9-1") && !holds("<3.0.14", "3.0.14"));
        assert!(holds(">=2", "2") && holds(" >= 2 , != 2.5 ", "2.4") && !holds(">=2,!=2.5", "2.5"));
        assert!(
            holds("=1.2-3", "1.2-3") && !holds("=1.2-3", "1.2-4") && holds("<=1", "1") && holds(">1", "1.1")
        );
        assert_eq!(">= 3.0 , <3.0.14".parse::<VersionExpression>().unwrap().to_string(), ">=3.0,<3.0.14");
        for bad in ["", "3.0", "<", "<3,", "=>3", "~3", &"<1,".repeat(16)] {
            assert!(bad.parse::<VersionExpression>().is_err(), "{bad}");
        }
    }

    fn any_version() -> impl Strategy<Value = String> {
        prop_oneof!["([0-2]:)?[0-2a~+.]{0,4}(-[0-1a~]{0,2})?", "\\PC{0,8}"]
    }

    proptest! {
        #[test]
        fn versions_have_a_total_order(a in any_version(), b in any_version(), c in any_version()) {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le(), "{} {} {}", a, b, c);
            }
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "\\PC{0,40}", version in "\\PC{0,20}") {
            if let Ok(expression) = text.parse::<VersionExpression>() {
                let _ = expression.holds_for(&version);
                prop_assert_eq!(expression.to_string().parse::<VersionExpression>().unwrap(), expression);
            }
        }
    }
}
