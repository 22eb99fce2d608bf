//! Dates as `strftime` writes them, in UTC and in English.
//!
//! Knows no other zones and no other languages: what a prompt says must not depend on the machine.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// A moment, cut up.
struct Date {
    year: i64,
    /// From 1.
    month: usize,
    day: i64,
    day_of_year: i64,
    weekday: usize,
    second_of_day: i64,
}

impl Date {
    fn of(unix_s: i64) -> Self {
        let mut day = unix_s.div_euclid(86_400);
        let weekday = day.rem_euclid(7) as usize;
        let second_of_day = unix_s.rem_euclid(86_400);
        // Whole cycles of 400 years first, so that few years are left to count.
        let cycles = day.div_euclid(146_097);
        day -= cycles * 146_097;
        let mut year = 1970 + cycles * 400;
        while day >= days_of(year) {
            day -= days_of(year);
            year += 1;
        }
        let day_of_year = day + 1;
        let mut month = 1;
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        Self { year, month, day: day + 1, day_of_year, weekday, second_of_day }
    }
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_of(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: i64, month: usize) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A moment in the given format; what is no known sign of it stays as it is.
pub(super) fn format(unix_s: i64, format: &str) -> String {
    let date = Date::of(unix_s);
    let mut letters = format.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let sign = letters.next();
        // `%-d` is `%d` without the zero.
        let bare = sign == Some('-');
        let sign = if bare { letters.next() } else { sign };
        let Some(sign) = sign else {
            text.push('%');
            break;
        };
        let written = field(&date, sign).unwrap_or_else(|| format!("%{sign}"));
        text.push_str(if bare { without_zeros(&written) } else { &written });
    }
    text
}

fn without_zeros(number: &str) -> &str {
    let rest = number.trim_start_matches('0');
    if rest.is_empty() { "0" } else { rest }
}

fn field(date: &Date, sign: char) -> Option<String> {
    let (month, weekday) = (MONTHS[date.month - 1], DAYS[date.weekday]);
    let (hour, minute, second) =
        (date.second_of_day / 3600, date.second_of_day / 60 % 60, date.second_of_day % 60);
    Some(match sign {
        'Y' => date.year.to_string(),
        'y' => format!("{:02}", date.year.rem_euclid(100)),
        'm' => format!("{:02}", date.month),
        'd' => format!("{:02}", date.day),
        'e' => format!("{:2}", date.day),
        'j' => format!("{:03}", date.day_of_year),
        'B' => month.to_owned(),
        'b' | 'h' => month[..3].to_owned(),
        'A' => weekday.to_owned(),
        'a' => weekday[..3].to_owned(),
        'u' => ((date.weekday + 3) % 7 + 1).to_string(),
        'w' => ((date.weekday + 4) % 7).to_string(),
        'H' => format!("{hour:02}"),
        'I' => format!("{:02}", (hour + 11) % 12 + 1),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        'F' => format!("{}-{:02}-{:02}", date.year, date.month, date.day),
        'T' => format!("{hour:02}:{minute:02}:{second:02}"),
        'Z' => "UTC".to_owned(),
        'z' => "+0000".to_owned(),
        '%' => "%".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_strftime_does() {
        let moments = [
            (0, "1970-01-01 00:00:00 Thu 001"),
            (951_782_399, "2000-02-28 23:59:59 Mon 059"),
            (951_782_400, "2000-02-29 00:00:00 Tue 060"),
            (1_735_689_599, "2024-12-31 23:59:59 Tue 366"),
            (1_735_689_600, "2025-01-01 00:00:00 Wed 001"),
            (4_107_542_400, "2100-03-01 00:00:00 Mon 060"),
            (-1, "1969-12-31 23:59:59 Wed 365"),
        ];
        for (unix_s, want) in moments {
            assert_eq!(format(unix_s, "%Y-%m-%d %H:%M:%S %a %j"), want);
        }
        assert_eq!(
            format(1_721_995_260, "%d %b %Y, %-d %B, %A, %I:%M %p %y %u %w %%"),
            "26 Jul 2024, 26 July, Friday, 12:01 PM 24 5 5 %"
        );
        assert_eq!(format(0, "%-d %-H %Q %"), "1 0 %Q %");
    }
}
