//! `muster.h` is written by hand: its functions and its numbers are those of the library.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::collections::BTreeMap;

const HEADER: &str = include_str!("../muster.h");
const SOURCES: [&str; 3] =
    [include_str!("../src/lib.rs"), include_str!("../src/application.rs"), include_str!("../src/text.rs")];

/// The names before an opening parenthesis, and the number of parameters behind it.
fn functions(text: &str, before: &str) -> BTreeMap<String, usize> {
    let mut functions = BTreeMap::new();
    for (at, _) in text.match_indices(before) {
        let rest = &text[at + before.len() - "muster_".len()..];
        let (name, rest) = rest.split_once('(').unwrap();
        let parameters = rest.split_once(')').unwrap().0;
        let count = parameters.split(',').filter(|parameter| !parameter.trim().is_empty()).count();
        functions.insert(name.to_owned(), count);
    }
    functions
}

/// A declaration of the header begins a line, with a type.
fn declared() -> BTreeMap<String, usize> {
    let mut text = String::new();
    let mut is_comment = false;
    for line in HEADER.lines() {
        is_comment |= line.trim_start().starts_with("/*");
        if !is_comment {
            text.push_str(line);
            text.push('\n');
        }
        is_comment &= !line.contains("*/");
    }
    let mut all = functions(&text, " muster_");
    all.extend(functions(&text, "*muster_"));
    all
}

#[test]
fn the_header_declares_what_the_library_has() {
    let mut defined = BTreeMap::new();
    for source in SOURCES {
        defined.extend(functions(source, "pub unsafe extern \"C\" fn muster_"));
    }
    assert!(defined.len() >= 12, "{defined:?}");
    assert_eq!(declared(), defined);
}

/// `MUSTER_NAME = 7` of the header.
fn number(name: &str) -> i32 {
    let (_, rest) = HEADER.split_once(&format!(" MUSTER_{name} = ")).unwrap_or_else(|| panic!("no {name}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn the_headers_numbers_are_those_of_the_library() {
    let results = SOURCES[0].split_once("enum MusterResult {").unwrap().1.split_once('}').unwrap().0;
    let mut count = 0;
    for line in results.lines().filter_map(|line| line.trim().strip_suffix(',')) {
        let (name, value) = line.split_once(" = ").unwrap();
        let mut upper = String::new();
        for (at, letter) in name.char_indices() {
            if at > 0 && letter.is_ascii_uppercase() {
                upper.push('_');
            }
            upper.push(letter.to_ascii_uppercase());
        }
        assert_eq!(number(&upper).to_string(), value, "{name}");
        count += 1;
    }
    assert_eq!(count, 12);
    for (index, severity) in muster::Severity::ALL.iter().enumerate() {
        let name = severity.name().to_uppercase();
        assert_eq!(usize::try_from(number(&name)).unwrap(), index, "{name}");
    }
}
