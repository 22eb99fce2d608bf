//! How large a regular expression is with its counted repetitions written out.
//!
//! An estimate for limits, not a parser: what is no regular expression gets some size, too.

/// The number of atoms, repetitions included: `(ab){3}c` has 7. Saturates.
pub(super) fn written_out(regex: &str) -> u64 {
    let mut letters = regex.chars().peekable();
    let mut outer = Vec::new();
    let mut group = Group::default();
    while let Some(letter) = letters.next() {
        match letter {
            '(' => outer.push(std::mem::take(&mut group)),
            ')' => {
                if let Some(around) = outer.pop() {
                    let inside = std::mem::replace(&mut group, around);
                    group.begin(inside.size());
                }
            }
            '{' => group.last = group.last.saturating_mul(count_of(&mut letters)),
            '|' => group.begin(0),
            '*' | '+' | '?' => {}
            '[' => {
                skip_class(&mut letters);
                group.begin(1);
            }
            '\\' => {
                let escaped = letters.next();
                // The name of a class, as in `\p{L}`, is no count.
                if matches!(escaped, Some('p' | 'P' | 'x' | 'u' | 'U')) && letters.peek() == Some(&'{') {
                    letters.by_ref().find(|letter| *letter == '}');
                }
                group.begin(1);
            }
            _ => group.begin(1),
        }
    }
    outer.iter().map(Group::size).fold(group.size(), u64::saturating_add)
}

/// The size of a group as far as it was read: what is complete, and the last atom, which may yet be repeated.
#[derive(Debug, Default)]
struct Group {
    complete: u64,
    last: u64,
}

impl Group {
    fn begin(&mut self, atom: u64) {
        self.complete = self.size();
        self.last = atom;
    }

    fn size(&self) -> u64 {
        self.complete.saturating_add(self.last)
    }
}

/// The greatest number up to the closing brace; 1 if there is none.
fn count_of(letters: &mut impl Iterator<Item = char>) -> u64 {
    let inside: String = letters.take_while(|letter| *letter != '}').collect();
    let counts = inside.split(',').map(str::trim).filter(|count| !count.is_empty());
    let is_number = |count: &str| count.bytes().all(|byte| byte.is_ascii_digit());
    counts
        .map(|count| count.parse().unwrap_or(if is_number(count) { u64::MAX } else { 1 }))
        .max()
        .unwrap_or(1)
}

fn skip_class(letters: &mut std::iter::Peekable<impl Iterator<Item = char>>) {
    letters.next_if_eq(&'^');
    // A bracket right at the beginning is one of the class.
    letters.next_if_eq(&']');
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                letters.next();
            }
            ']' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_multiply_what_they_follow() {
        let sizes = [
            ("", 0),
            ("abc", 3),
            ("ab{3}c", 5),
            ("(ab){3}c", 7),
            ("(ab){2,5}", 10),
            ("(ab){3,}", 6),
            ("((a{10}){10}){10}", 1000),
            ("(a|bc){4}d", 13),
            ("[^]a]{7}", 7),
            (r"[\]a]{7}", 7),
            (r"\p{Greek}{3}\{2", 5),
            (r"\d+\.\d{1,2}", 4),
            ("a{99999999999999999999}", u64::MAX),
            ("a{x}", 1),
            (")(a{4}", 4),
        ];
        for (regex, size) in sizes {
            assert_eq!(written_out(regex), size, "{regex}");
        }
        assert_eq!(written_out(&format!("{}a{}", "(".repeat(10), "{1000000})".repeat(10))), u64::MAX);
    }
}
