//! A filter's words: parentheses, and what stands between blanks.

use super::FilterError;

/// A piece of a filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Open,
    Close,
    Minus,
    Word(Word),
}

/// A word, without its quotes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Word {
    pub(super) text: String,
    /// Number of bytes of it before the first colon that is not quoted.
    pub(super) key_bytes: Option<usize>,
    /// Number of bytes of it before the first `<`, `>`, `=` or `!` behind that colon that is not quoted.
    pub(super) operator_bytes: Option<usize>,
    /// Whether some of it is quoted: then it is no keyword.
    pub(super) is_quoted: bool,
    /// For each byte of the text, the number of characters of the filter before it.
    places: Vec<usize>,
}

impl Word {
    fn push(&mut self, at: usize, character: char) {
        self.text.push(character);
        self.places.resize(self.text.len(), at);
    }

    /// Number of characters of the filter before this byte of the word; of its last for one beyond it.
    pub(super) fn place(&self, byte: usize) -> usize {
        self.places.get(byte).or(self.places.last()).copied().unwrap_or_default()
    }
}

/// The pieces of a filter, each with the number of characters before it.
pub(super) fn split(text: &str) -> Result<Vec<(usize, Piece)>, FilterError> {
    let mut pieces = Vec::new();
    let mut characters = text.chars().enumerate().peekable();
    while let Some((at, first)) = characters.next() {
        match first {
            _ if first.is_whitespace() => {}
            '(' => pieces.push((at, Piece::Open)),
            ')' => pieces.push((at, Piece::Close)),
            '-' => pieces.push((at, Piece::Minus)),
            _ => {
                let mut word = Word::default();
                let mut next = Some((at, first));
                while let Some((here, character)) = next {
                    match character {
                        '"' => {
                            word.is_quoted = true;
                            quoted(&mut word, here, &mut characters)?;
                        }
                        ':' if word.key_bytes.is_none() => {
                            word.key_bytes = Some(word.text.len());
                            word.push(here, character);
                        }
                        '<' | '>' | '=' | '!'
                            if word.key_bytes.is_some() && word.operator_bytes.is_none() =>
                        {
                            word.operator_bytes = Some(word.text.len());
                            word.push(here, character);
                        }
                        _ => word.push(here, character),
                    }
                    next = characters.next_if(|(_, c)| !c.is_whitespace() && !matches!(c, '(' | ')'));
                }
                pieces.push((at, Piece::Word(word)));
            }
        }
    }
    Ok(pieces)
}

/// The rest of what a quote began.
fn quoted(
    word: &mut Word,
    begin: usize,
    characters: &mut impl Iterator<Item = (usize, char)>,
) -> Result<(), FilterError> {
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok(()),
            '\\' => match characters.next() {
                Some((at, escaped @ ('"' | '\\'))) => word.push(at, escaped),
                _ => return Err(FilterError::new(at, "behind \\ stands a quote or another \\")),
            },
            _ => word.push(at, character),
        }
    }
    Err(FilterError::new(begin, "this quote has no end"))
}
