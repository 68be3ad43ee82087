//! Reads filters.

use std::str::FromStr;

use super::words::{Piece, Word, split};
use super::{Filter, FilterError, Node, term};

/// Longest filter: a screen full. One travels in a query string, three times as long there.
pub const FILTER_BYTES_MAX: usize = 2_048;

/// Most terms of a filter: each costs some time for every device.
pub const TERMS_MAX: usize = 64;

/// Deepest filter, in parentheses and negations within each other.
pub const DEPTH_MAX: usize = 16;

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            let bytes = text.len();
            let message = format!("the filter has {bytes} bytes, at most {FILTER_BYTES_MAX} are allowed");
            return Err(FilterError::new(0, message));
        }
        let mut parser = Parser {
            pieces: split(text)?,
            next: 0,
            end: text.chars().count(),
            terms: 0,
            filter: Self { text: text.to_owned(), ..Self::default() },
        };
        if !parser.pieces.is_empty() {
            parser.filter.root = parser.any(0)?;
        }
        match parser.pieces.get(parser.next) {
            None => Ok(parser.filter),
            Some((at, _)) => Err(FilterError::new(*at, "nothing is open that this parenthesis could close")),
        }
    }
}

struct Parser {
    pieces: Vec<(usize, Piece)>,
    next: usize,
    /// Number of characters of the whole filter.
    end: usize,
    terms: usize,
    filter: Filter,
}

impl Parser {
    /// The next piece, unless it ends what is being read.
    fn peek(&self) -> Option<&(usize, Piece)> {
        self.pieces.get(self.next).filter(|(_, piece)| *piece != Piece::Close)
    }

    /// Goes on when the next piece is this keyword.
    fn takes(&mut self, keyword: &str) -> bool {
        let is_next = matches!(self.peek(), Some((_, Piece::Word(word))) if is_keyword(word, keyword));
        self.next += usize::from(is_next);
        is_next
    }

    fn any(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.all(depth)?];
        while self.takes("or") {
            nodes.push(self.all(depth)?);
        }
        Ok(one_of(nodes, Node::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.one(depth)?];
        while let Some((_, piece)) = self.peek() {
            match piece {
                Piece::Word(word) if is_keyword(word, "or") => break,
                Piece::Word(word) if is_keyword(word, "and") => self.next += 1,
                _ => {}
            }
            nodes.push(self.one(depth)?);
        }
        Ok(one_of(nodes, Node::All))
    }

    fn one(&mut self, depth: usize) -> Result<Node, FilterError> {
        let Some((at, piece)) = self.peek().cloned() else {
            let at = self.pieces.get(self.next).map_or(self.end, |(at, _)| *at);
            return Err(FilterError::new(at, "here a term is missing, such as os:debian"));
        };
        if depth > DEPTH_MAX {
            let message = format!("this is deeper than {DEPTH_MAX} parentheses and negations");
            return Err(FilterError::new(at, message));
        }
        self.next += 1;
        let node = match piece {
            Piece::Minus => Node::Not(Box::new(self.one(depth + 1)?)),
            Piece::Word(word) if is_keyword(&word, "not") => Node::Not(Box::new(self.one(depth + 1)?)),
            Piece::Open => {
                let node = self.any(depth + 1)?;
                if !matches!(self.pieces.get(self.next), Some((_, Piece::Close))) {
                    return Err(FilterError::new(at, "this parenthesis is not closed"));
                }
                self.next += 1;
                node
            }
            Piece::Word(word) if is_keyword(&word, "or") || is_keyword(&word, "and") => {
                let message = format!("'{}' stands between two terms; as a text it needs quotes", word.text);
                return Err(FilterError::new(at, message));
            }
            Piece::Word(word) => {
                self.terms += 1;
                if self.terms > TERMS_MAX {
                    return Err(FilterError::new(at, format!("this is one term more than {TERMS_MAX}")));
                }
                Node::Term(term::read(at, &word, &mut self.filter.lookups)?)
            }
            Piece::Close => return Err(FilterError::new(at, "here a term is missing, such as os:debian")),
        };
        Ok(node)
    }
}

fn is_keyword(word: &Word, keyword: &str) -> bool {
    !word.is_quoted && word.text.eq_ignore_ascii_case(keyword)
}

/// The only one, or what `join` makes of several.
fn one_of(mut nodes: Vec<Node>, join: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        last => {
            nodes.extend(last);
            join(nodes)
        }
    }
}
