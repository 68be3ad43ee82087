//! A checker for the part of CDDL (RFC 8610) that `muster.cddl` uses: choices, arrays, maps, ranges, `.size`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// A CBOR value (RFC 8949) of the kinds that we send: definite lengths, no tags.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Unsigned(u64),
    /// -1 - this.
    Negative(u64),
    /// The bits of a single or a double.
    Float(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Bool(bool),
    Null,
}

/// Decodes one value, independently of the library that encoded it.
pub(crate) fn decode(bytes: &[u8]) -> (Value, &[u8]) {
    let (first, rest) = bytes.split_first().expect("a value");
    let (argument, mut rest) = match first & 0x1f {
        small @ 0..=23 => (u64::from(small), rest),
        size @ 24..=27 => {
            let (argument, rest) = rest.split_at(1 << (size - 24));
            (argument.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest)
        }
        other => panic!("additional information {other} is not ours"),
    };
    let count = usize::try_from(argument).unwrap();
    let mut next = || {
        let (value, after) = decode(rest);
        rest = after;
        value
    };
    let value = match first >> 5 {
        0 => Value::Unsigned(argument),
        1 => Value::Negative(argument),
        7 if matches!(first & 0x1f, 26 | 27) => Value::Float(argument),
        2 | 3 => {
            let (content, after) = rest.split_at(count);
            rest = after;
            match first >> 5 {
                2 => Value::Bytes(content.to_vec()),
                _ => Value::Text(String::from_utf8(content.to_vec()).unwrap()),
            }
        }
        4 => Value::Array((0..count).map(|_| next()).collect()),
        5 => Value::Map((0..count).map(|_| (next(), next())).collect()),
        7 if argument == 20 => Value::Bool(false),
        7 if argument == 21 => Value::Bool(true),
        7 if argument == 22 => Value::Null,
        other => panic!("major type {other} with {argument} is not ours"),
    };
    (value, rest)
}

enum Type {
    Name(String),
    Range(u64, u64),
    Size(Box<Type>, u64, u64),
    Array(Vec<Member>),
    Map(Vec<Member>),
    Choice(Vec<Type>),
}

#[derive(Clone, Copy, PartialEq)]
enum Occurs {
    Once,
    Optional,
    Any,
}

struct Member {
    occurs: Occurs,
    key: Option<Type>,
    value: Type,
}

/// A whole file.
pub(crate) struct Schema {
    rules: BTreeMap<String, Type>,
    used: RefCell<BTreeSet<String>>,
}

impl Schema {
    pub(crate) fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let mut parser = Parser { tokens: &tokens, at: 0 };
        let mut rules = BTreeMap::new();
        while parser.at < tokens.len() {
            let name = parser.take().to_owned();
            parser.expect("=");
            let rule = parser.choice();
            assert!(rules.insert(name.clone(), rule).is_none(), "{name} is defined twice");
        }
        Self { rules, used: RefCell::default() }
    }

    /// Whether the value is what the rule says.
    pub(crate) fn allows(&self, rule: &str, value: &Value) -> bool {
        self.matches(&Type::Name(rule.to_owned()), value)
    }

    /// Rules that no value has met yet.
    pub(crate) fn unused(&self) -> Vec<&str> {
        let used = self.used.borrow();
        self.rules.keys().filter(|name| !used.contains(*name)).map(String::as_str).collect()
    }

    fn matches(&self, wanted: &Type, value: &Value) -> bool {
        match wanted {
            Type::Name(name) => match (name.as_str(), value) {
                ("any", _)
                | ("uint" | "int", Value::Unsigned(_))
                | ("int", Value::Negative(_))
                | ("float", Value::Float(_))
                | ("bstr", Value::Bytes(_))
                | ("tstr", Value::Text(_))
                | ("bool", Value::Bool(_))
                | ("null", Value::Null) => true,
                ("uint" | "int" | "float" | "bstr" | "tstr" | "bool" | "null", _) => false,
                _ => {
                    let rule = self.rules.get(name).unwrap_or_else(|| panic!("{name} is not defined"));
                    let matches = self.matches(rule, value);
                    if matches {
                        self.used.borrow_mut().insert(name.clone());
                    }
                    matches
                }
            },
            Type::Range(from, to) => {
                matches!(value, Value::Unsigned(number) if (from..=to).contains(&number))
            }
            Type::Size(inner, from, to) => {
                let length = match value {
                    Value::Bytes(bytes) => bytes.len(),
                    Value::Text(text) => text.len(),
                    _ => return false,
                };
                self.matches(inner, value) && (*from..=*to).contains(&(length as u64))
            }
            Type::Choice(types) => types.iter().any(|one| self.matches(one, value)),
            Type::Array(members) => {
                let Value::Array(items) = value else { return false };
                let mut items = items.iter().peekable();
                let in_order = members.iter().all(|member| match member.occurs {
                    Occurs::Once => items.next().is_some_and(|item| self.matches(&member.value, item)),
                    Occurs::Optional => {
                        items.next_if(|item| self.matches(&member.value, item));
                        true
                    }
                    Occurs::Any => {
                        while items.next_if(|item| self.matches(&member.value, item)).is_some() {}
                        true
                    }
                });
                in_order && items.next().is_none()
            }
            Type::Map(members) => {
                let Value::Map(pairs) = value else { return false };
                let key_of = |member: &Member, key: &Value| {
                    self.matches(member.key.as_ref().expect("a map's member has a key"), key)
                };
                // A key written with a colon is decided by its own member (a cut, RFC 8610 section 3.5.4).
                let pairs_fit = pairs.iter().all(|(key, value)| {
                    let member = members.iter().find(|member| key_of(member, key));
                    member.is_some_and(|member| self.matches(&member.value, value))
                });
                let required = members.iter().filter(|member| member.occurs == Occurs::Once);
                let mut counts =
                    required.map(|member| pairs.iter().filter(|(key, _)| key_of(member, key)).count());
                pairs_fit && counts.all(|count| count == 1)
            }
        }
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let mut rest = line.split(';').next().unwrap_or_default().trim_start();
        while !rest.is_empty() {
            let is_word = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
            let length = if rest.starts_with(is_word) {
                rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())
            } else if rest.starts_with("=>") || rest.starts_with("..") {
                2
            } else if rest.starts_with(".size") {
                5
            } else {
                1
            };
            tokens.push(rest[..length].to_owned());
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

struct Parser<'t> {
    tokens: &'t [String],
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> &'t str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn take(&mut self) -> &'t str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn took(&mut self, token: &str) -> bool {
        let there = self.peek() == token;
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, token: &str) {
        let found = self.take();
        assert_eq!(found, token, "at token {}", self.at);
    }

    fn choice(&mut self) -> Type {
        let mut types = vec![self.controlled()];
        while self.took("/") {
            types.push(self.controlled());
        }
        if types.len() == 1 { types.remove(0) } else { Type::Choice(types) }
    }

    fn controlled(&mut self) -> Type {
        let inner = self.primary();
        if !self.took(".size") {
            return inner;
        }
        match self.primary() {
            Type::Range(from, to) => Type::Size(Box::new(inner), from, to),
            _ => panic!(".size takes a number or a range"),
        }
    }

    fn primary(&mut self) -> Type {
        match self.take() {
            "[" => Type::Array(self.members("]")),
            "{" => Type::Map(self.members("}")),
            "(" => {
                let inner = self.choice();
                self.expect(")");
                inner
            }
            word => match word.parse() {
                Ok(from) if self.took("..") => Type::Range(from, self.take().parse().expect("a number")),
                Ok(number) => Type::Range(number, number),
                Err(_) => Type::Name(word.to_owned()),
            },
        }
    }

    fn members(&mut self, end: &str) -> Vec<Member> {
        let mut members = Vec::new();
        while !self.took(end) {
            let occurs = match self.peek() {
                "*" => Occurs::Any,
                "?" => Occurs::Optional,
                _ => Occurs::Once,
            };
            self.at += usize::from(occurs != Occurs::Once);
            let first = self.choice();
            let has_key = self.took(":") || self.took("=>");
            let (key, value) = if has_key { (Some(first), self.choice()) } else { (None, first) };
            members.push(Member { occurs, key, value });
            self.took(",");
        }
        members
    }
}
