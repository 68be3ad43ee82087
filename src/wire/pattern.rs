//! Names by pattern and by part, in whatever case of ASCII letters, as names of devices are told apart.

/// Whether a name fits a pattern: `*` stands for any text, `?` for one character. Takes at most the product
/// of both lengths in steps.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    let (mut wanted, mut left) = (pattern.chars(), name.chars());
    // Behind the last star, and what its own text left.
    let mut star = None;
    loop {
        let (mut wanted_behind, mut left_behind) = (wanted.clone(), left.clone());
        match (wanted_behind.next(), left_behind.next()) {
            (Some('*'), _) => {
                wanted = wanted_behind;
                star = Some((wanted.clone(), left.clone()));
            }
            (None, None) => return true,
            (Some(one), Some(other)) if one == '?' || one.eq_ignore_ascii_case(&other) => {
                (wanted, left) = (wanted_behind, left_behind);
            }
            (_, None) => return false,
            (_, Some(_)) => {
                let Some((behind, own)) = &mut star else { return false };
                own.next();
                (wanted, left) = (behind.clone(), own.clone());
            }
        }
    }
}

/// Whether the name contains the text.
#[must_use]
pub fn contains(name: &str, text: &str) -> bool {
    let (name, text) = (name.as_bytes(), text.as_bytes());
    let Some(first) = text.first() else { return true };
    let begins = name.len().checked_sub(text.len());
    begins.is_some_and(|last| {
        (0..=last).any(|at| {
            name[at].eq_ignore_ascii_case(first) && name[at..at + text.len()].eq_ignore_ascii_case(text)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_of_names_as_people_write_them() {
        for (pattern, name, is_fit) in [
            ("*", "", true),
            ("kiosk-17", "KIOSK-17", true),
            ("kiosk-*", "kiosk-17", true),
            ("kiosk-*", "desk-17", false),
            ("kiosk-??", "kiosk-1", false),
            ("*-b*r", "a-b-bar", true),
            ("*ü?", "x-üß", true),
            ("[a]", "a", false),
            ("kiosk", "kiosk-2", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), is_fit, "{pattern} {name}");
        }
        // One that would take years by trying all ways.
        assert!(!fits(&"*a".repeat(127), &"a".repeat(126)));
        assert!(!fits(&format!("{}b", "*a".repeat(100)), &"a".repeat(255)));
    }

    #[test]
    fn a_part_is_found_anywhere_in_a_name() {
        for (name, text, is_there) in [
            ("Kiosk-17", "OSK", true),
            ("kiosk-17", "-17", true),
            ("kiosk-17", "-171", false),
            ("küche", "Ü", false),
            ("küche", "üCH", true),
            ("", "", true),
            ("a", "%", false),
        ] {
            assert_eq!(contains(name, text), is_there, "{name} {text}");
        }
    }
}
