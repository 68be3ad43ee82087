//! The words of the sources: retired names, the width of comments, sentences that are riddles, units that are
//! said twice; and the glossary's terms.

use std::collections::HashSet;
use std::fs;

use super::{Source, hold, root, sources};

/// Parts of names that the field calls otherwise, and its word.
const RETIRED: [(&str, &str); 36] = [
    ("floors", "layers"),
    ("house", "fixture, crate"),
    ("houses", "fixtures, crates"),
    ("road", "path, flow"),
    ("roads", "paths"),
    ("steward", "scheduler"),
    ("duty", "leadership"),
    ("lane", "queue"),
    ("lanes", "queues"),
    ("doorbell", "notifier, waker"),
    ("bell", "notifier, waker"),
    ("rung", "notified"),
    ("nudge", "notify"),
    ("nudges", "notifications"),
    ("nudged", "notified"),
    ("orders", "desired state"),
    ("ear", "capture"),
    ("overheard", "captured"),
    ("desk", "handle, server"),
    ("whereabouts", "location"),
    ("farewell", "goodbye"),
    ("farewells", "goodbyes"),
    ("standing", "status"),
    ("gather", "commit delay"),
    ("wishes", "request"),
    ("patience", "timeout"),
    ("rehearse", "dry run"),
    ("rehearsed", "dry run"),
    ("alarm", "panic guard, timer"),
    ("preparer", "preallocator"),
    ("till", "kiosk"),
    ("tills", "kiosks"),
    ("hot_record", "device state"),
    ("kept_by", "persistent by"),
    ("last_word", "goodbye, notice, final report"),
    ("in_step", "in_sync"),
];

/// Names of which a part is one of those and means what everybody means by it.
const PLAIN: [(&str, &str); 2] =
    [("src/journal/reader.rs", "gather"), ("src/store/devices/states.rs", "orders")];

/// Words in comments and texts that the field calls otherwise, or that make riddles of sentences.
const PHRASES: [(&str, &str); 20] = [
    ("lane", "queue, channel"),
    ("till", "kiosk, until"),
    ("steward", "scheduler"),
    ("doorbell", "notifier, waker"),
    ("nudge", "notify"),
    ("farewell", "goodbye, close_notify"),
    ("whereabouts", "location"),
    ("preparer", "preallocator"),
    ("overheard", "captured"),
    ("patience", "timeout"),
    ("hot record", "device state"),
    ("last word", "goodbye, shutdown notice, final report"),
    ("last words", "goodbye, shutdown notices"),
    ("kept link", "persistent link"),
    ("kept connection", "persistent link"),
    ("in step", "in sync"),
    ("look out", "spin, poll"),
    ("whoever", "the one who it is"),
    ("is to be", "what has to be done, by whom"),
    ("so many", "the number by its name, or 'this many'"),
];

/// Widest comment, in columns: as wide as the code.
const WIDTH_MAX: usize = 110;

/// A paragraph of comment lines, or one item, heading or row of a table.
struct Paragraph {
    line: usize,
    text: String,
    /// The line of code below the comment that the paragraph belongs to.
    item: String,
}

/// The text of a comment line, without its marker and one blank.
fn comment(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("//")?;
    let rest = rest.strip_prefix(['!', '/']).unwrap_or(rest);
    Some(rest.strip_prefix(' ').unwrap_or(rest))
}

/// Whether a comment line begins something of its own: an item of a list, a heading, a row of a table.
fn begins(text: &str) -> bool {
    let number = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    text.starts_with(['|', '#']) || ["- ", "* "].iter().any(|mark| text.starts_with(mark)) || {
        number.len() < text.len() && number.starts_with(". ")
    }
}

fn paragraphs(source: &Source) -> Vec<Paragraph> {
    let (mut all, mut block): (Vec<Paragraph>, Vec<Paragraph>) = (Vec::new(), Vec::new());
    let (mut is_code, mut is_open) = (false, false);
    for (index, line) in source.text.lines().enumerate() {
        let Some(text) = comment(line) else {
            if !line.trim_start().starts_with("#[") {
                block.iter_mut().for_each(|paragraph| paragraph.item = line.trim().to_owned());
                all.append(&mut block);
            }
            (is_code, is_open) = (false, false);
            continue;
        };
        if text.trim_start().starts_with("```") {
            (is_code, is_open) = (!is_code, false);
        } else if is_code || text.trim().is_empty() {
            is_open = false;
        } else if is_open && !begins(text) {
            let paragraph = block.last_mut().expect("it is open");
            paragraph.text.extend([" ", text.trim()]);
        } else {
            block.push(Paragraph { line: index + 1, text: text.trim().to_owned(), item: String::new() });
            is_open = !text.starts_with(['|', '#']);
        }
    }
    all.append(&mut block);
    all
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = [". ", "! ", "? "].iter().filter_map(|mark| rest.find(mark)).min();
        let (sentence, others) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = others.trim_start();
        (!sentence.is_empty()).then_some(sentence)
    })
}

/// Whether `phrase` stands in `text` as words of its own.
fn says(text: &str, phrase: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(phrase)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + phrase.len()..].starts_with(is_part))
}

fn phrase_rule(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for paragraph in paragraphs(source) {
        let text = paragraph.text.to_lowercase();
        for (phrase, better) in PHRASES {
            if says(&text, phrase) {
                wrong.push(source.wrong(paragraph.line, &format!("'{phrase}': write {better}")));
            }
        }
    }
    wrong
}

/// The same for texts in the code, and for files that are no source.
fn text_rule(path: &str, texts: impl Iterator<Item = (usize, String)>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, text) in texts {
        let text = text.to_lowercase();
        let found = PHRASES.iter().find(|(phrase, _)| says(&text, phrase));
        wrong.extend(found.map(|(phrase, better)| format!("{path}:{number}: '{phrase}': write {better}")));
    }
    wrong
}

fn literal_rule(source: &Source) -> Vec<String> {
    let literals = |line: &str| line.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(" ");
    text_rule(&source.path, source.code().map(|(number, line)| (number, literals(line))))
}

fn question_rule(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for paragraph in paragraphs(source) {
        for sentence in sentences(&paragraph.text) {
            let words = sentence.trim_start_matches(['-', '*', '#', ' ']);
            let first = words.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
            if ["Who", "What", "Where", "How"].contains(&first) && !words.trim_end().ends_with('?') {
                let why = format!("begins like a question and is none: {words}");
                wrong.push(source.wrong(paragraph.line, &why));
            }
        }
    }
    wrong
}

fn unit_rule(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for paragraph in paragraphs(source) {
        let name = paragraph.item.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let name = name.trim_start_matches("pub(super) ").trim_start_matches("const ");
        let name =
            name.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default();
        for (at, _) in paragraph.text.match_indices(", in ") {
            let rest = &paragraph.text[at + ", in ".len()..];
            let unit = rest.split(|letter: char| !letter.is_ascii_lowercase()).next().unwrap_or_default();
            let is_alone =
                rest[unit.len()..].is_empty() || rest[unit.len()..].starts_with(['.', ',', ':', ';']);
            if !unit.is_empty() && is_alone && name.to_lowercase().split('_').any(|part| part == unit) {
                wrong.push(
                    source.wrong(paragraph.line, &format!("'{name}' says already that it is in {unit}")),
                );
            }
        }
    }
    wrong
}

fn width_rule(source: &Source) -> Vec<String> {
    let (mut wrong, mut is_code) = (Vec::new(), false);
    for (index, line) in source.text.lines().enumerate() {
        let Some(text) = comment(line) else {
            is_code = false;
            continue;
        };
        if text.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        let is_drawn = is_code || text.starts_with(['|', ' ']) || text.contains(['─', '▶', '│']);
        let is_address = text.starts_with('[') && text.contains("]: ");
        if line.chars().count() > WIDTH_MAX && !is_drawn && !is_address {
            wrong.push(source.wrong(index + 1, &format!("the comment is wider than {WIDTH_MAX} columns")));
        }
    }
    wrong
}

/// The names in a line of code, without those in its texts.
fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split('"').step_by(2).filter(|code| !code.ends_with('\\'));
    code.flat_map(|code| code.split(|letter: char| !letter.is_alphanumeric() && letter != '_'))
}

fn retired_rule(source: &Source) -> Vec<String> {
    let (mut wrong, mut seen) = (Vec::new(), HashSet::new());
    for (number, line) in source.code() {
        for name in identifiers(line).filter(|name| seen.insert(*name)) {
            let whole = snake(name);
            let is_in = |retired: &str| whole.contains(retired) && whole.contains(&format!("_{retired}_"));
            let found = RETIRED.iter().find(|(retired, _)| is_in(retired));
            if let Some((retired, better)) = found
                && !PLAIN.contains(&(source.path.as_str(), retired))
            {
                wrong.push(source.wrong(number, &format!("'{name}': '{retired}' is called {better}")));
            }
        }
    }
    wrong
}

/// A name in lower case, an underscore before and behind each of its parts: `_hot_record_` for `HotRecord`.
fn snake(name: &str) -> String {
    let is_screaming = !name.contains(|letter: char| letter.is_ascii_lowercase());
    let mut snake = "_".to_owned();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !is_screaming && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake + "_"
}

const FOLDERS: [&str; 4] = ["src", "tests", "benches", "tools"];

/// Applies a rule to all sources but this one, which names what it forbids.
fn hold_words(rule: impl Fn(&Source) -> Vec<String>) {
    hold(&FOLDERS, |source| if source.path == "tests/tidy/words.rs" { Vec::new() } else { rule(source) });
}

fn planted(rule: impl Fn(&Source) -> Vec<String>, text: &str) -> usize {
    rule(&Source::planted("src/x.rs", text)).len()
}

#[test]
fn names_are_those_of_the_field() {
    assert_eq!(planted(retired_rule, "struct StewardThread;"), 1);
    assert_eq!(planted(retired_rule, "const KEPT_BY: u8; fn ring_the_bell() {}"), 2);
    assert_eq!(planted(retired_rule, "fn say_last_word(record: HotRecord) {}"), 2);
    assert_eq!(
        planted(retired_rule, "let x = disk.floor(); // the house\nlet y = \"orders\"; bellows(y)"),
        0
    );
    hold_words(retired_rule);
}

#[test]
fn comments_have_the_words_of_the_field() {
    assert_eq!(planted(phrase_rule, "/// Tells whoever\n/// waits what is\n/// to be done."), 2);
    assert_eq!(planted(phrase_rule, "// Says its last words. Not in step.\n"), 2);
    assert_eq!(planted(phrase_rule, "let patience = 1;\n/// ```\n/// whoever\n/// ```"), 0);
    hold_words(phrase_rule);
    assert_eq!(planted(literal_rule, "log::info!(\"last word: {kind}\"); // Whoever says \"so\"."), 1);
    hold_words(literal_rule);
    for path in [
        "README.md",
        "src/wire/muster.cddl",
        "src/store/schema.sql",
        "tools/musterd.toml",
        "tools/muster-agent.toml",
    ] {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let wrong = text_rule(path, text.lines().map(str::to_owned).enumerate());
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    }
}

#[test]
fn no_sentence_begins_like_a_question_and_is_none() {
    assert_eq!(
        planted(question_rule, "/// What it holds. How long\n/// it lasts.\n///\n/// - Who waits."),
        3
    );
    assert_eq!(planted(question_rule, "//! # What now\n// Whatever comes. What is it?"), 1);
    hold_words(question_rule);
}

#[test]
fn a_unit_is_said_once() {
    assert_eq!(planted(unit_rule, "/// Its length, in seconds.\n#[must_use]\npub length_seconds: u32,"), 1);
    assert_eq!(planted(unit_rule, "/// Rate, in bytes per second.\nconst RATE_BYTES: u64 = 1;"), 0);
    assert_eq!(planted(unit_rule, "/// Its length, in seconds.\nlength: u32,"), 0);
    hold_words(unit_rule);
}

#[test]
fn comments_are_as_wide_as_the_code() {
    let wide = "wide ".repeat(30);
    assert_eq!(planted(width_rule, &format!("/// {wide}\n")), 1);
    assert_eq!(
        planted(width_rule, &format!("/// | {wide}\n/// ```\n/// {wide}\n/// ```\nlet x = \"{wide}\";")),
        0
    );
    hold_words(width_rule);
}

/// Terms of the glossary that no code has under the name that stands beside them.
fn glossary_rule(glossary: &str, code: &str) -> Vec<String> {
    let rows = glossary.lines().filter_map(|line| comment(line)?.strip_prefix("| **"));
    let mut wrong = Vec::new();
    for row in rows {
        let (term, rest) = row.split_once("**").unwrap_or((row, ""));
        let name = rest.split('`').nth(1).unwrap_or_default();
        if name.is_empty() || !says(code, name) {
            wrong.push(format!("'{term}': nothing in the code is called '{name}'"));
        }
    }
    wrong
}

#[test]
fn each_term_of_the_glossary_is_one_of_the_code() {
    let planted =
        "//! | **spool** | `Spool` | a queue |\n//! | **attic** | `Attic` | nowhere |\n//! | **x** | | |";
    assert_eq!(glossary_rule(planted, "struct Spool;").len(), 2);
    let glossary = fs::read_to_string(root().join("src/manual/glossary.rs")).unwrap();
    assert!(glossary.matches("| **").count() > 20, "the glossary has terms");
    let sources = sources(&["src"]);
    let others = sources.iter().filter(|source| source.module() != Some("manual"));
    let code: String = others.flat_map(Source::code).flat_map(|(_, line)| [line, "\n"]).collect();
    let wrong = glossary_rule(&glossary, &code);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
