//! Functions and constants that the handbook names by their file are there; its lives (`src/manual/lives.rs`)
//! are as long as it says.

use std::path::Path;

use super::{Source, root, sources};

/// Line in the chapter, file below `src/`, function or constant.
type Step<'a> = (usize, &'a str, &'a str);

/// The names in a line that are written as `file.rs::name` in backquotes.
fn steps_in(number: usize, line: &str) -> impl Iterator<Item = Step<'_>> {
    line.split('`').skip(1).step_by(2).filter_map(move |code| {
        let (file, function) = code.split_once(".rs::")?;
        Some((number, &code[..file.len() + ".rs".len()], function))
    })
}

fn numbered(chapter: &Source) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(chapter.text.lines()).map(|(number, line)| (number, line.trim_start_matches("//!").trim()))
}

/// Whether a source defines a function, or a constant when the name is one of those.
fn defines(text: &str, name: &str) -> bool {
    let is_constant = name.starts_with(|first: char| first.is_ascii_uppercase());
    if is_constant {
        return text.contains(&format!("const {name}:"));
    }
    text.contains(&format!("fn {name}(")) || text.contains(&format!("fn {name}<"))
}

/// Every name must be that of a file below `src/` and of a function or constant in it.
fn missing_rule(chapter: &Source, text_of: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, file, name) in numbered(chapter).flat_map(|(number, line)| steps_in(number, line)) {
        match text_of(file) {
            None => wrong.push(chapter.wrong(number, &format!("src/{file} is not there"))),
            Some(text) if !defines(&text, name) => {
                wrong.push(chapter.wrong(number, &format!("src/{file} does not define '{name}'")));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// The files that steps enter, and how often they come back to one that was left.
fn count(steps: &[Step<'_>]) -> (usize, usize) {
    let mut entered: Vec<&str> = Vec::new();
    let (mut before, mut returns) = ("", 0);
    for (_, file, _) in steps {
        if *file != before {
            if entered.contains(file) {
                returns += 1;
            } else {
                entered.push(file);
            }
        }
        before = file;
    }
    (entered.len(), returns)
}

/// The counts that a line gives for the list behind it: `5 files, 2 returns: …`.
fn claimed(line: &str) -> Option<(usize, usize)> {
    let (files, rest) = line.split_once(" files, ")?;
    let (returns, _) = rest.split_once(" returns:")?;
    Some((files.parse().ok()?, returns.parse().ok()?))
}

/// A heading's line, the counts that are given below it, and the steps.
type List<'a> = (usize, Option<(usize, usize)>, Vec<Step<'a>>);

fn counts_rule(chapter: &Source) -> Vec<String> {
    let mut lists: Vec<List<'_>> = Vec::new();
    for (number, line) in numbered(chapter) {
        if line.starts_with("# ") {
            lists.push((number, None, Vec::new()));
        }
        let Some((_, counts, steps)) = lists.last_mut() else { continue };
        *counts = counts.or(claimed(line));
        if line.starts_with(|first: char| first.is_ascii_digit()) && line.contains(". `") {
            steps.extend(steps_in(number, line));
        }
    }
    let wrong = lists.iter().filter(|(_, counts, steps)| *counts != Some(count(steps)));
    wrong
        .map(|(number, _, steps)| {
            let (files, returns) = count(steps);
            chapter.wrong(*number, &format!("this list has {files} files, {returns} returns: say so"))
        })
        .collect()
}

#[test]
fn what_the_handbook_names_of_the_source_is_there() {
    let text_of = |file: &str| std::fs::read_to_string(root().join("src").join(Path::new(file))).ok();
    let planted = |text: &str| missing_rule(&Source::planted("src/manual/x.rs", text), text_of).len();
    assert_eq!(planted("//! 1. `wire/frame.rs::split` and `wire/frame.rs::append`"), 0);
    assert_eq!(planted("//! | `wire/limits.rs::PINS_MAX` | 4 |"), 0);
    assert_eq!(planted("//! | `wire/limits.rs::PINS` | 4 |"), 1, "no such constant");
    assert_eq!(planted("//! 1. `wire/frame.rs::splits`"), 1, "no such function");
    assert_eq!(planted("//! 1. `wire/frames.rs::split`"), 1, "no such file");
    let chapters: Vec<Source> = sources(&["src/manual"]);
    let steps = chapters.iter().flat_map(numbered).flat_map(|(number, line)| steps_in(number, line)).count();
    assert!(steps > 100, "only {steps} steps were found");
    let wrong: Vec<String> = chapters.iter().flat_map(|chapter| missing_rule(chapter, text_of)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_handbooks_lives_are_as_long_as_it_says() {
    let life =
        "//! # A life\n//! 2 files, 1 returns: short.\n//! 1. `a.rs::f`\n//! 2. `b.rs::g`\n//! 3. `a.rs::h`";
    let planted = |text: &str| counts_rule(&Source::planted("src/manual/lives.rs", text)).len();
    assert_eq!(planted(life), 0);
    assert_eq!(planted(&life.replace("1 returns", "0 returns")), 1);
    assert_eq!(planted(&life.replace("2 files", "3 files")), 1);
    let chapter = sources(&["src/manual/lives.rs"]).pop().unwrap();
    let wrong = counts_rule(&chapter);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
