//! Numbers that are somebody's: payment cards, phone numbers, US social security numbers.
//!
//! Looks at one place of a text; the walk is `personal`'s.
//!
//! Invariant: nothing beyond [`MAX_BYTES`] bytes of that place is looked at.

use super::Personal;

const MAX_BYTES: usize = 40;
const MAX_GROUPS: usize = 8;

/// What begins here.
pub(super) fn at(bytes: &[u8], at: usize) -> Option<Personal> {
    let here = &bytes[at..bytes.len().min(at + MAX_BYTES)];
    if here.first() == Some(&b'+') {
        return is_international(&here[1..]).then_some(Personal::Phone);
    }
    if here.first() == Some(&b'(') {
        return is_in_parentheses(here).then_some(Personal::Phone);
    }
    let groups = Groups::read(here);
    if is_card(&groups) {
        return Some(Personal::Card);
    }
    // In `12-123-45-6789` no number begins at 123, and in `0044 0532 0130 01` none at 0532.
    let goes_on = at >= 2 && b" -./".contains(&bytes[at - 1]) && bytes[at - 2].is_ascii_digit();
    if goes_on || bytes.get(at.wrapping_sub(1)).is_some_and(|before| b"$\xa3#_".contains(before)) {
        return None;
    }
    if is_social_security(&groups) {
        return Some(Personal::SocialSecurity);
    }
    let is_phone = is_north_american(&groups) || is_national(&groups) || is_with_prefix(here);
    is_phone.then_some(Personal::Phone)
}

/// Digits in groups with one sign between two of them, as far as the sign stays the same.
struct Groups {
    digits: [u8; MAX_BYTES],
    lens: [usize; MAX_GROUPS],
    n_groups: usize,
    /// Between groups; a space where there is but one.
    sign: u8,
}

impl Groups {
    fn read(here: &[u8]) -> Self {
        let mut groups = Self { digits: [0; MAX_BYTES], lens: [0; MAX_GROUPS], n_groups: 0, sign: b' ' };
        let (mut rest, mut n_read) = (&here[..here.len().min(MAX_BYTES)], 0);
        loop {
            let n_digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            for (digit, byte) in groups.digits[n_read..].iter_mut().zip(&rest[..n_digits]) {
                *digit = byte - b'0';
            }
            n_read += n_digits;
            groups.lens[groups.n_groups] = n_digits;
            groups.n_groups += 1;
            rest = &rest[n_digits..];
            let (Some(sign), Some(next)) = (rest.first(), rest.get(1)) else { break };
            let is_same = groups.n_groups == 1 || *sign == groups.sign;
            let goes_on = b" -./".contains(sign) && next.is_ascii_digit() && is_same;
            if !goes_on || groups.n_groups == MAX_GROUPS {
                break;
            }
            groups.sign = *sign;
            rest = &rest[1..];
        }
        // A group that runs into letters is part of a name.
        if rest.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_') {
            groups.n_groups -= 1;
        }
        groups
    }

    /// Digits in each group.
    fn lens(&self) -> &[usize] {
        &self.lens[..self.n_groups]
    }

    fn digits(&self) -> &[u8] {
        self.first(self.n_groups)
    }

    /// The digits of the first groups.
    fn first(&self, n_groups: usize) -> &[u8] {
        &self.digits[..self.lens().iter().take(n_groups).sum()]
    }
}

/// How issuers print their numbers.
const CARD_GROUPS: [&[usize]; 4] = [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3]];

fn is_card(groups: &Groups) -> bool {
    if let [14..=19, ..] = groups.lens() {
        return is_card_number(groups.first(1));
    }
    let is_printed = |lens: &&&[usize]| groups.lens().starts_with(lens) && b" -".contains(&groups.sign);
    CARD_GROUPS.iter().rev().filter(is_printed).any(|lens| is_card_number(groups.first(lens.len())))
}

fn is_card_number(digits: &[u8]) -> bool {
    let leading =
        |n: usize| digits.iter().take(n).fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    let is_issued = match digits.len() {
        14 => matches!(leading(2), 36 | 38 | 39) || matches!(leading(3), 300..=305),
        15 => matches!(leading(2), 34 | 37),
        16 => {
            matches!(leading(1), 4)
                || matches!(leading(2), 51..=55 | 62 | 65)
                || matches!(leading(3), 644..=649)
                || matches!(leading(4), 2221..=2720 | 3528..=3589 | 6011)
        }
        19 => matches!(leading(1), 4) || matches!(leading(2), 62),
        _ => false,
    };
    is_issued && passes_luhn(digits)
}

fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(idx, digit)| match (idx % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 % 10 + digit * 2 / 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_social_security(groups: &Groups) -> bool {
    if groups.lens() != [3, 2, 4] || groups.sign != b'-' {
        return false;
    }
    let digits = groups.digits();
    let area = digits[..3].iter().fold(0_u32, |area, digit| area * 10 + u32::from(*digit));
    !matches!(area, 0 | 666 | 900..) && digits[3..5] != [0, 0] && digits[5..] != [0; 4]
}

/// `415-555-2671`, `415.555.2671`, `1-415-555-2671`. With spaces only, three numbers in a row look the same.
fn is_north_american(groups: &Groups) -> bool {
    if !b"-.".contains(&groups.sign) {
        return false;
    }
    match (groups.lens(), groups.digits()) {
        ([3, 3, 4], digits) => is_north_american_number(digits),
        ([1, 3, 3, 4], [1, digits @ ..]) => is_north_american_number(digits),
        _ => false,
    }
}

fn is_north_american_number(digits: &[u8]) -> bool {
    digits.len() >= 10 && digits[0] >= 2 && digits[3] >= 2
}

/// `(415) 555-2671`, `(030) 1234567`.
fn is_in_parentheses(here: &[u8]) -> bool {
    let n_area = here[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let Some((b")", rest)) = here.get(1 + n_area..).and_then(|rest| rest.split_at_checked(1)) else {
        return false;
    };
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    if !rest.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let number = Groups::read(rest);
    match &here[1..=n_area] {
        [b'2'..=b'9', _, _] => {
            number.digits().first().is_some_and(|digit| *digit >= 2) && matches!(number.lens(), [3, 4] | [7])
        }
        [b'0', b'1'..=b'9', ..] => n_area <= 6 && (5..=9).contains(&number.digits().len()),
        _ => false,
    }
}

/// `030 1234567`, `0171/2345678`, `06 12 34 56 78`, `020 7946 0958`: a zero for the trunk, and groups.
fn is_national(groups: &Groups) -> bool {
    let (lens, sign) = (groups.lens(), groups.sign);
    let [0, 1..=9, ..] = groups.digits() else { return false };
    // A post code with its extension; an address of four numbers; a date and what follows it.
    let is_else = lens == [5, 4] || (sign == b'.' && lens.len() == 4) || lens.starts_with(&[2, 2, 4]);
    let is_grouped = lens.len() >= 2 && lens.iter().all(|len| *len >= 2);
    let fits = (2..=lens.len()).any(|n_groups| (9..=12).contains(&groups.first(n_groups).len()));
    lens.first().is_some_and(|first| (2..=6).contains(first)) && is_grouped && !is_else && fits
}

/// `0049 30 1234567`.
fn is_with_prefix(here: &[u8]) -> bool {
    here.starts_with(b"00") && is_international(&here[2..])
}

/// What follows a `+`: a country's code, and as many digits as a number of that country can have.
fn is_international(here: &[u8]) -> bool {
    let (mut digits, mut n_digits, mut n_signs) = ([0; 15], 0, 0);
    for byte in here {
        match byte {
            b'0'..=b'9' if n_digits < digits.len() => {
                digits[n_digits] = byte - b'0';
                (n_digits, n_signs) = (n_digits + 1, 0);
            }
            // `+49 (0) 30`
            b' ' | b'-' | b'.' | b'/' | b'(' | b')' if n_signs < 2 && n_digits > 0 => n_signs += 1,
            _ => break,
        }
    }
    let n_first = here.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = &digits[..n_digits];
    match *digits {
        [1, ..] => digits.len() >= 11 && is_north_american_number(&digits[1..]),
        [7, ..] => digits.len() >= 11 && matches!(digits[1], 3 | 4 | 7..=9),
        // Numbers in Italy keep their zero; elsewhere none follows the code, but for a trunk zero in parentheses.
        [3, 9, ..] => digits.len() >= 8 && n_first >= 2,
        [first, second, third, fourth, ..] => {
            let (n_code, after_code) = if is_code_of_two(first, second) { (2, third) } else { (3, fourth) };
            let has_trunk = here.windows(3).any(|three| three == b"(0)");
            let is_whole = digits.len() >= 9 && n_first >= n_code;
            is_whole && is_code(first, second) && (after_code != 0 || has_trunk)
        }
        _ => false,
    }
}

fn is_code_of_two(first: u8, second: u8) -> bool {
    match first {
        2 => matches!(second, 0 | 7),
        3 => matches!(second, 0..=4 | 6 | 9),
        4 => second != 2,
        5 => matches!(second, 1..=8),
        6 => second <= 6,
        8 => matches!(second, 1 | 2 | 4 | 6),
        9 => matches!(second, 0..=5 | 8),
        _ => false,
    }
}

/// Whether any country's code begins with these two digits.
fn is_code(first: u8, second: u8) -> bool {
    is_code_of_two(first, second)
        || matches!(
            (first, second),
            (2, 1..=6 | 9)
                | (3, 5 | 7 | 8)
                | (4, 2)
                | (5, 0 | 9)
                | (6, 7..=9)
                | (8, 0 | 5 | 7 | 8)
                | (9, 6 | 7 | 9)
        )
}
