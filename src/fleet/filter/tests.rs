//! Filters: what they let through, what they refuse, and where.

use proptest::prelude::*;

use super::*;

const HOUR: u64 = 3_600_000;
const NOW: WallTime = WallTime(1_000 * HOUR);

/// A kiosk that was last heard three hours ago.
struct Kiosk {
    /// Names of what it is found by.
    found: &'static [&'static str],
    lookups: Vec<Lookup>,
}

impl Subject for Kiosk {
    fn name(&self) -> &str {
        "Kiosk-17"
    }

    fn hostname(&self) -> &str {
        "k17.example.org"
    }

    fn os(&self) -> (&str, &str) {
        ("debian", "Debian GNU/Linux 12 (bookworm)")
    }

    fn agent_version(&self) -> &str {
        "0.1.9"
    }

    fn status(&self) -> Status {
        Status::Critical
    }

    fn presence(&self) -> Presence {
        Presence::Lost
    }

    fn last_seen(&self) -> WallTime {
        WallTime(NOW.0 - 3 * HOUR)
    }

    fn last_sync(&self) -> WallTime {
        WallTime(0)
    }

    fn has_pins(&self) -> bool {
        false
    }

    fn is_found(&self, lookup: usize) -> bool {
        match &self.lookups[lookup] {
            Lookup::Group(name) | Lookup::Tag(name) | Lookup::View(name) => {
                self.found.contains(&name.as_str())
            }
            Lookup::Application { name, version } => {
                self.found.contains(&name.as_str())
                    && version.as_ref().is_none_or(|version| version.holds_for("3.0.9"))
            }
        }
    }
}

fn matches(text: &str) -> bool {
    let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(filter.to_string(), text);
    let kiosk =
        Kiosk { found: &["openssl", "/berlin", "shop", "old-ones"], lookups: filter.lookups().to_vec() };
    filter.matches(&kiosk, NOW)
}

#[test]
fn each_term_asks_its_own_fact() {
    for (yes, no) in [
        ("KIOSK", "desk"),
        ("example", "example.com"),
        ("name:kiosk-*", "name:kiosk"),
        ("name:KIOSK-1?", "name:iosk-17"),
        ("host:*.example.org", "host:example.org"),
        ("group:berlin/", "group:/paris"),
        ("tag:shop", "tag:lab"),
        ("view:old-ones", "view:new-ones"),
        ("os:Debian", "os:debia?x"),
        ("os:\"linux 12\"", "os:13"),
        ("version:<0.2", "version:0.2"),
        ("version:>=0.1,<0.1.10", "version:!=0.1.9"),
        ("app:openssl", "app:nginx"),
        ("app:openssl<3.0.14", "app:openssl>=3.0.14"),
        ("presence:lost", "presence:idle"),
        ("status:critical", "status:ok"),
        ("seen:>2h", "seen:>4h"),
        ("seen:<4h", "seen:<2h"),
        ("synced:>1w", "synced:<1w"),
        ("pins:missing", "pins:stored"),
    ] {
        assert!(matches(yes), "{yes}");
        assert!(!matches(no), "{no}");
        assert!(!matches(&format!("-{yes}")) && matches(&format!("not {no}")), "{yes} {no}");
    }
}

#[test]
fn terms_are_joined_as_people_expect() {
    for (text, is_through) in [
        ("", true),
        ("  ", true),
        ("kiosk status:critical", true),
        ("kiosk AND desk", false),
        ("desk or kiosk", true),
        ("desk status:critical or kiosk", true),
        ("desk (status:critical or kiosk)", false),
        ("-(desk or status:ok) kiosk", true),
        ("--kiosk", true),
        ("\"and\"", false),
        ("\"not\" or \"kiosk\"", true),
        (r#"name:"kiosk\"" or host:"k17.example.org""#, true),
    ] {
        assert_eq!(matches(text), is_through, "{text}");
    }
    assert_eq!("".parse::<Filter>().unwrap(), Filter::default());
    let twice: Filter = "app:a or -app:a<2 app:a group:/b group:/b/".parse().unwrap();
    assert_eq!(twice.lookups().len(), 3, "what is asked twice is looked up once");
    assert_eq!(quoted(r#"a "b\"#), r#""a \"b\\""#);
}

#[test]
fn an_error_names_the_character() {
    for (text, at, said) in [
        ("os:debian foo:bar", 10, "there is no key 'foo': it is one of name, host"),
        ("ü seen:2h", 7, "'2h' is not how long ago"),
        ("seen:>2x", 5, "'2x' is not a duration"),
        ("name:", 4, "behind 'name:' a value is missing"),
        ("status:\"bad\"", 8, "'bad' is not a status"),
        ("presence:away", 9, "connected, idle"),
        ("app:openssl<", 11, "version expression"),
        ("app:<3", 4, "the application's name is missing"),
        ("group:a//b", 6, "not a group path"),
        ("pins:old", 5, "neither stored nor missing"),
        ("kiosk (a or b", 6, "is not closed"),
        ("kiosk )", 6, "nothing is open"),
        ("kiosk or", 8, "a term is missing"),
        ("()", 1, "a term is missing"),
        ("or a", 0, "as a text it needs quotes"),
        ("a name:\"b", 7, "this quote has no end"),
        (r#""a\b""#, 2, "behind \\"),
        ("\"\"", 0, "this text is empty"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.message.contains(said), "{text}: {error}");
    }
    let error = "ü seen:2h".parse::<Filter>().unwrap_err();
    assert!(error.to_string().ends_with("(at character 8 of the filter)"), "{error}");
    assert!(error.pointing("ü\tseen:2h").ends_with("\n  ü seen:2h\n         ^"), "{}", error.pointing("ü"));
}

#[test]
fn a_filter_is_bounded() {
    let refused = |text: String| text.parse::<Filter>().unwrap_err().message;
    assert!(refused("a".repeat(FILTER_BYTES_MAX + 1)).contains("at most 2048"));
    assert!(vec!["a"; TERMS_MAX].join(" ").parse::<Filter>().is_ok());
    assert!(refused(vec!["a"; TERMS_MAX + 1].join(" ")).contains("one term more than 64"));
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(DEPTH_MAX).parse::<Filter>().is_ok());
    assert!(refused(nested(DEPTH_MAX + 1)).contains("deeper than 16"));
    assert!(refused("-".repeat(FILTER_BYTES_MAX)).contains("deeper than 16"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_at_one_of_its_characters(
        text in r#"(\PC{0,3}|[()" -]|or|not|name:|app:|seen:>|status:ok|"){0,12}"#
    ) {
        match text.parse::<Filter>() {
            Ok(filter) => {
                let negated: Filter = format!("-({text})").parse().unwrap_or_default();
                let kiosk = Kiosk { found: &[], lookups: filter.lookups().to_vec() };
                if filter.root != Node::default() {
                    prop_assert_ne!(filter.matches(&kiosk, NOW), negated.matches(&kiosk, NOW), "{}", text);
                }
            }
            Err(error) => prop_assert!(error.at <= text.chars().count(), "{}: {}", text, error),
        }
    }

    #[test]
    fn a_quoted_text_is_looked_for_as_it_is(text in "\\PC{1,12}") {
        let filter: Filter = quoted(&text).parse().unwrap();
        prop_assert_eq!(filter.root, Node::Term(Term::Text(text)));
    }
}
