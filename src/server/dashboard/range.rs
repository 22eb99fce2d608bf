//! What of the book is shown: the time range and the filters, read from the URL and written back to it.
//!
//! Whose calls may be shown is not decided here; `book` does, whatever the URL says.
//!
//! Invariants: any URL gives an [`Ask`]; what could not be read becomes its default and a notice that is
//! shown; what is written back is read as the same.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::chart::Column;
use super::format;
use crate::ledger::entry::Outcome;
use crate::team::CallId;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Up to here a chart has a bar an hour, beyond it a bar a day.
const MOST_HOURLY_MS: i64 = 3 * DAY_MS;
/// A chart with more bars shows nothing but noise.
const MOST_DAYS: i64 = 400;
/// Longer than any name the gateway takes.
const MOST_CHARS: usize = 200;

/// Ranges with a name, all in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    Day,
    Week,
    Days30,
    Days90,
    Month,
    LastMonth,
}

impl Preset {
    pub(super) const ALL: [Self; 6] =
        [Self::Day, Self::Week, Self::Days30, Self::Days90, Self::Month, Self::LastMonth];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Days30 => "30d",
            Self::Days90 => "90d",
            Self::Month => "month",
            Self::LastMonth => "last-month",
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Day => "24 h",
            Self::Week => "7 d",
            Self::Days30 => "30 d",
            Self::Days90 => "90 d",
            Self::Month => "Month",
            Self::LastMonth => "Last month",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    Preset(Preset),
    /// Whole days, the last one included.
    Days {
        first: Date,
        last: Date,
    },
}

impl Default for Range {
    fn default() -> Self {
        Self::Preset(Preset::Days30)
    }
}

/// How wide a column of a chart is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    Hour,
    Day,
}

impl Grain {
    pub(super) fn ms(self) -> i64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }
}

/// A range at a moment: `from_ms..to_ms`, both at the edge of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    pub(super) grain: Grain,
}

impl Span {
    pub(super) fn n_columns(&self) -> usize {
        usize::try_from((self.to_ms - self.from_ms) / self.grain.ms()).unwrap_or(0)
    }

    /// The column a moment falls into.
    pub(super) fn column_at(&self, ts_ms: i64) -> Option<usize> {
        let is_within = (self.from_ms..self.to_ms).contains(&ts_ms);
        is_within.then(|| usize::try_from((ts_ms - self.from_ms) / self.grain.ms()).ok()).flatten()
    }

    pub(super) fn columns(&self) -> Vec<Column> {
        let (long, short) = match self.grain {
            Grain::Hour => ("%a %-d %b %Y, %H:00", "%-d %b %H:00"),
            Grain::Day => ("%a %-d %b %Y", "%-d %b"),
        };
        let at = |idx: usize| self.from_ms + self.grain.ms() * i64::try_from(idx).unwrap_or(0);
        let column = |ts_ms| Column { long: format::time(ts_ms, long), short: format::time(ts_ms, short) };
        (0..self.n_columns()).map(|idx| column(at(idx))).collect()
    }

    /// Its end: at most so many days.
    pub(super) fn last_days(&self, n_days: i64) -> Self {
        Self { from_ms: self.from_ms.max(self.to_ms - n_days * DAY_MS), ..*self }
    }

    /// The same length of time before it, to compare with.
    pub(super) fn before(&self) -> Self {
        Self { from_ms: self.from_ms - (self.to_ms - self.from_ms), to_ms: self.from_ms, grain: self.grain }
    }
}

impl Range {
    /// Where the range lies when it is asked for at `now_ms`.
    pub(super) fn span(self, now_ms: i64) -> Span {
        let next_hour_ms = now_ms.div_euclid(HOUR_MS) * HOUR_MS + HOUR_MS;
        let next_day_ms = now_ms.div_euclid(DAY_MS) * DAY_MS + DAY_MS;
        let days = |n_days: i64| (next_day_ms - n_days * DAY_MS, next_day_ms);
        let (from_ms, to_ms) = match self {
            Self::Preset(Preset::Day) => (next_hour_ms - DAY_MS, next_hour_ms),
            Self::Preset(Preset::Week) => days(7),
            Self::Preset(Preset::Days30) => days(30),
            Self::Preset(Preset::Days90) => days(90),
            Self::Preset(Preset::Month) => (first_of_month_ms(now_ms, 0), next_day_ms),
            Self::Preset(Preset::LastMonth) => (first_of_month_ms(now_ms, -1), first_of_month_ms(now_ms, 0)),
            Self::Days { first, last } => (midnight_ms(first), midnight_ms(last) + DAY_MS),
        };
        let grain = if to_ms - from_ms <= MOST_HOURLY_MS { Grain::Hour } else { Grain::Day };
        Span { from_ms, to_ms, grain }
    }

    fn write(self, pairs: &mut Vec<(&'static str, String)>) {
        match self {
            Self::Preset(preset) => pairs.push(("range", preset.word().to_owned())),
            Self::Days { first, last } => {
                pairs.push(("from", first.to_string()));
                pairs.push(("to", last.to_string()));
            }
        }
    }
}

fn first_of_month_ms(now_ms: i64, months: i64) -> i64 {
    let today = Timestamp::from_millisecond(now_ms).unwrap_or_default().to_zoned(TimeZone::UTC).date();
    let first = today.first_of_month();
    midnight_ms(first.checked_add(months.months()).unwrap_or(first))
}

fn midnight_ms(date: Date) -> i64 {
    date.to_zoned(TimeZone::UTC).map_or(0, |midnight| midnight.timestamp().as_millisecond())
}

/// What a page is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ask {
    pub(super) range: Range,
    pub(super) team: Option<String>,
    pub(super) route: Option<String>,
    pub(super) outcome: Option<Outcome>,
    pub(super) search: Option<String>,
    /// The last call of the page before.
    pub(super) before: Option<CallId>,
    /// What of the URL was not understood, in sentences.
    pub(super) notices: Vec<String>,
}

impl Ask {
    pub(super) fn parse(pairs: &[(String, String)]) -> Self {
        let mut ask = Self::default();
        let get = |name: &str| {
            let value = pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim());
            value.filter(|value| !value.is_empty())
        };
        ask.range = ask.range_of(get("range"), get("from"), get("to"));
        ask.team = ask.label("team", get("team"));
        ask.route = ask.label("route", get("route"));
        ask.search = ask.label("q", get("q"));
        ask.outcome = ask.known("outcome", get("outcome"), Outcome::parse, "all outcomes are shown");
        ask.before =
            ask.known("before", get("before"), CallId::parse, "the list begins with the newest call");
        ask
    }

    fn range_of(&mut self, word: Option<&str>, from: Option<&str>, to: Option<&str>) -> Range {
        let dates = match (from, to) {
            (Some(from), Some(to)) => Some((from, to)),
            (Some(one), None) | (None, Some(one)) => Some((one, one)),
            (None, None) => None,
        };
        let preset =
            |word: &str| Preset::ALL.into_iter().find(|preset| preset.word() == word).map(Range::Preset);
        match (word, dates) {
            (None | Some("custom"), Some((from, to))) => self.days(from, to),
            (None | Some("custom"), None) => Range::default(),
            (Some(word), _) => {
                self.known("range", Some(word), preset, "the last 30 days are shown").unwrap_or_default()
            }
        }
    }

    fn days(&mut self, from: &str, to: &str) -> Range {
        // Dates far off have no place in milliseconds, and no call.
        let read = |text: &str| text.parse::<Date>().ok().filter(|date| (1970..=9000).contains(&date.year()));
        let (Some(first), Some(last)) = (read(from), read(to)) else {
            let text = if read(from).is_none() { from } else { to };
            self.notices.push(format!(
                "`{}` is no date such as 2026-11-03, so the last 30 days are shown.",
                shortened(text)
            ));
            return Range::default();
        };
        let (first, last) = if first <= last { (first, last) } else { (last, first) };
        let most = first.checked_add((MOST_DAYS - 1).days()).unwrap_or(last);
        if last > most {
            self.notices.push(format!("At most {MOST_DAYS} days are shown, so the range ends at {most}."));
        }
        Range::Days { first, last: last.min(most) }
    }

    /// A name as somebody wrote it.
    fn label(&mut self, name: &str, value: Option<&str>) -> Option<String> {
        let value = value?;
        if value.chars().count() > MOST_CHARS {
            self.notices.push(format!("`{name}` is longer than {MOST_CHARS} characters, so it is left out."));
            return None;
        }
        if value.chars().any(char::is_control) {
            self.notices.push(format!("`{name}` holds characters that cannot be shown, so it is left out."));
            return None;
        }
        Some(value.to_owned())
    }

    fn known<T>(
        &mut self,
        name: &str,
        value: Option<&str>,
        read: impl FnOnce(&str) -> Option<T>,
        instead: &str,
    ) -> Option<T> {
        let value = value?;
        let found = read(value);
        if found.is_none() {
            self.notices.push(format!("`{}` is no {name}, so {instead}.", shortened(value)));
        }
        found
    }

    /// What stands behind the `?` of a link.
    pub(super) fn query(&self) -> String {
        let mut pairs = Vec::new();
        self.range.write(&mut pairs);
        let mut put = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
        put("team", self.team.clone());
        put("route", self.route.clone());
        put("outcome", self.outcome.map(|outcome| outcome.as_str().to_owned()));
        put("q", self.search.clone());
        put("before", self.before.map(|id| id.to_string()));
        let written: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        written.join("&")
    }

    /// The range and the filters that every page has.
    pub(super) fn shared(&self) -> Self {
        Self { range: self.range, team: self.team.clone(), route: self.route.clone(), ..Self::default() }
    }

    pub(super) fn with_range(&self, range: Range) -> Self {
        Self { range, before: None, ..self.clone() }
    }

    pub(super) fn with_team(&self, team: &str) -> Self {
        Self { team: Some(team.to_owned()), before: None, ..self.clone() }
    }

    pub(super) fn with_route(&self, route: &str) -> Self {
        Self { route: Some(route.to_owned()), before: None, ..self.clone() }
    }

    pub(super) fn with_search(&self, search: &str) -> Self {
        Self { search: Some(search.to_owned()), before: None, ..self.clone() }
    }
}

fn shortened(text: &str) -> String {
    match text.chars().count() {
        0..=40 => text.to_owned(),
        _ => format!("{}…", text.chars().take(40).collect::<String>()),
    }
}

/// Percent-encoded for a query.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                written.push(char::from(byte))
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(written, "%{byte:02X}");
            }
        }
    }
    written
}

#[cfg(test)]
mod tests;
