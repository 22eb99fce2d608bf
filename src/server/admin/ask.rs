//! From the parameters of a URL to a question for the book.
//!
//! Asks nothing itself.
//!
//! Invariants: an unknown parameter or value is an error that names it and what it may be; a window never
//! ends before it begins.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Result};
use crate::ledger::entry::Outcome;
use crate::ledger::report::{By, CallsAsk, Filter, LatencyAsk, LatencyBy, SpendAsk, Step};
use crate::team::{CallId, KeyId, RouteName, TeamName};

const MS_PER_DAY: i64 = 86_400_000;
/// The window of a question that names none.
const DEFAULT_DAYS: i64 = 30;
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1_000;
/// More groups than this make no report that anybody reads.
const MAX_DIMENSIONS: usize = 4;

/// The parameters that were given and not looked at yet.
#[derive(Debug)]
pub(super) struct Given {
    pairs: BTreeMap<String, String>,
    now_ms: i64,
}

/// How an answer is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

impl Given {
    pub(super) fn read(query: Option<&str>, now_ms: i64) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if pairs.insert(name.clone(), value).is_some() {
                return Err(bad(&name, "is given twice; keep one"));
            }
        }
        Ok(Self { pairs, now_ms })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.pairs.remove(name).filter(|value| !value.is_empty())
    }

    /// Refuses what nobody took.
    fn end(self, known: &str) -> Result<()> {
        match self.pairs.keys().next() {
            Some(unknown) => Err(bad(unknown, &format!("is not a parameter here; there are: {known}"))),
            None => Ok(()),
        }
    }

    fn window(&mut self) -> Result<(i64, i64)> {
        let to_ms = self.time("to")?.unwrap_or(self.now_ms);
        let from_ms = self.time("from")?.unwrap_or(to_ms - DEFAULT_DAYS * MS_PER_DAY);
        if from_ms > to_ms {
            return Err(bad("from", "is later than `to`; swap them"));
        }
        Ok((from_ms, to_ms))
    }

    /// A day, a time, or a span before now such as `7d`.
    fn time(&mut self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let day = |text: &str| text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok();
        let ago = |text: &str| {
            let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let hours = number.parse::<i64>().ok().filter(|n| (0..100_000).contains(n))?;
            let hours = match unit {
                "h" => hours,
                "d" => hours * 24,
                _ => return None,
            };
            Some(self.now_ms - i64::try_from(SignedDuration::from_hours(hours).as_millis()).ok()?)
        };
        let at_ms = text
            .parse::<Timestamp>()
            .map(Timestamp::as_millisecond)
            .ok()
            .or_else(|| day(&text).map(|day| day.timestamp().as_millisecond()))
            .or_else(|| ago(&text));
        let problem =
            "is no time; write 2026-11-01, 2026-11-01T08:00:00Z, or a span before now such as 7d or 24h";
        at_ms.map(Some).ok_or_else(|| bad(name, problem))
    }

    fn filter(&mut self) -> Filter {
        Filter {
            team: self.take("team").map(|team| TeamName::from(&team)),
            route: self.take("route").map(|route| RouteName::from(&route)),
            model: self.take("model"),
            upstream: self.take("upstream"),
            path: self.take("path"),
            split: self.take("split"),
            key: self.take("key").map(|key| KeyId::from(&key)),
            user: self.take("user"),
            tag: self.take("tag"),
        }
    }

    fn limit(&mut self) -> Result<u32> {
        let Some(text) = self.take("limit") else { return Ok(DEFAULT_LIMIT) };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| bad("limit", &format!("must be 1 to {MAX_LIMIT}")))
    }

    fn format(&mut self) -> Result<Format> {
        match self.take("format").as_deref() {
            None | Some("json") => Ok(Format::Json),
            Some("csv") => Ok(Format::Csv),
            Some(_) => Err(bad("format", "must be json or csv")),
        }
    }
}

const FILTERS: &str = "team, route, model, upstream, path, split, key, user, tag";

pub(super) fn spend(mut given: Given) -> Result<(SpendAsk, Format)> {
    let (from_ms, to_ms) = given.window()?;
    let mut by = Vec::new();
    for word in given.take("by").as_deref().unwrap_or("").split(',').filter(|word| !word.is_empty()) {
        let known = || By::ALL.map(By::as_str).join(", ");
        let found = By::parse(word.trim()).ok_or_else(|| {
            bad("by", &format!("holds `{word}`, which is no dimension; there are: {}", known()))
        })?;
        if by.contains(&found) {
            return Err(bad("by", &format!("holds `{word}` twice; keep one")));
        }
        by.push(found);
    }
    if by.len() > MAX_DIMENSIONS {
        return Err(bad("by", &format!("holds {} dimensions; {MAX_DIMENSIONS} are the most", by.len())));
    }
    let step = match given.take("step").as_deref() {
        None | Some("whole") => Step::Whole,
        Some("hour") => Step::Hour,
        Some("day") => Step::Day,
        Some(_) => return Err(bad("step", "must be hour, day or whole")),
    };
    let (filter, format) = (given.filter(), given.format()?);
    given.end(&format!("from, to, by, step, format, {FILTERS}"))?;
    Ok((SpendAsk { by, step, from_ms, to_ms, filter, ..SpendAsk::default() }, format))
}

/// A window, and calls of one team or one route alone.
pub(super) fn window(mut given: Given) -> Result<SpendAsk> {
    let (from_ms, to_ms) = given.window()?;
    let team = given.take("team").map(|team| TeamName::from(&team));
    let route = given.take("route").map(|route| RouteName::from(&route));
    given.end("from, to, team, route")?;
    let filter = Filter { team, route, ..Filter::default() };
    Ok(SpendAsk { filter, ..SpendAsk::over(&[], from_ms, to_ms) })
}

/// One team alone, or none named.
pub(super) fn team(mut given: Given) -> Result<Option<TeamName>> {
    let team = given.take("team").map(|team| TeamName::from(&team));
    given.end("team")?;
    Ok(team)
}

pub(super) fn latency(mut given: Given) -> Result<LatencyAsk> {
    let (from_ms, to_ms) = given.window()?;
    let by = match given.take("by").as_deref() {
        None => None,
        Some("team") => Some(LatencyBy::Team),
        Some("route") => Some(LatencyBy::Route),
        Some("split") => Some(LatencyBy::Split),
        Some("arm") => Some(LatencyBy::Arm),
        Some("hour") => Some(LatencyBy::Hour),
        Some("day") => Some(LatencyBy::Day),
        Some(_) => return Err(bad("by", "must be team, route, split, arm, hour or day")),
    };
    let team = given.take("team").map(|team| TeamName::from(&team));
    let route = given.take("route").map(|route| RouteName::from(&route));
    let split = given.take("split");
    given.end("from, to, by, team, route, split")?;
    Ok(LatencyAsk { by, from_ms, to_ms, team, route, split })
}

pub(super) fn calls(mut given: Given) -> Result<(CallsAsk, Format)> {
    let (from_ms, to_ms) = given.window()?;
    let outcome = given.take("outcome").map(|word| {
        let known = || Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>().join(", ");
        Outcome::parse(&word).ok_or_else(|| bad("outcome", &format!("must be one of: {}", known())))
    });
    let before = given.take("before").map(|id| {
        CallId::parse(&id)
            .ok_or_else(|| bad("before", "must be the id of a call, the last of the page before"))
    });
    let ask = CallsAsk {
        from_ms,
        to_ms,
        outcome: outcome.transpose()?,
        text: given.take("text"),
        before: before.transpose()?,
        limit: given.limit()?,
        filter: given.filter(),
    };
    let format = given.format()?;
    given.end(&format!("from, to, outcome, text, before, limit, format, {FILTERS}"))?;
    Ok((ask, format))
}

fn bad(name: &str, problem: &str) -> Error {
    Error::invalid(format!("`{name}` {problem}")).with_param(name)
}

/// Undoes `%41` and `+`.
fn decoded(text: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let mut bytes = Vec::with_capacity(spaced.len());
    let mut rest = spaced.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid("the URL holds bytes that are no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T12:00:00Z.
    const NOW_MS: i64 = 1_795_262_400_000;

    fn given(query: &str) -> Given {
        Given::read(Some(query), NOW_MS).unwrap()
    }

    #[test]
    fn a_question_is_read_from_its_parameters() {
        let query = "by=team,model&step=day&from=2026-11-01&to=2026-11-20T12:30:00Z&user=a%26b+c&format=csv";
        let (ask, format) = spend(given(query)).unwrap();

        assert_eq!(ask.by, [By::Team, By::Model]);
        assert_eq!((ask.step, format), (Step::Day, Format::Csv));
        assert_eq!(ask.to_ms - ask.from_ms, 19 * MS_PER_DAY + 12 * 3_600_000 + 30 * 60_000);
        assert_eq!(ask.filter.user.as_deref(), Some("a&b c"));
    }

    #[test]
    fn spans_are_counted_back_from_now_and_a_month_is_the_default() {
        let (ask, _) = spend(given("from=24h")).unwrap();
        assert_eq!((ask.from_ms, ask.to_ms), (NOW_MS - MS_PER_DAY, NOW_MS));
        let (ask, _) = spend(given("")).unwrap();
        assert_eq!(ask.from_ms, NOW_MS - 30 * MS_PER_DAY);
    }

    #[test]
    fn what_cannot_be_understood_is_named_with_its_remedy() {
        for (query, expected) in [
            ("by=colour", "`colour`"),
            ("by=team,team", "twice"),
            ("by=team,key,user,tag,model", "5 dimensions"),
            ("step=week", "hour, day or whole"),
            ("from=yesterday", "is no time"),
            ("from=d", "is no time"),
            ("from=2026-11-02&to=2026-11-01", "later than"),
            ("format=xml", "json or csv"),
            ("teams=search", "`teams` is not a parameter"),
            ("team=a&team=b", "`team` is given twice"),
        ] {
            let error = Given::read(Some(query), NOW_MS).and_then(spend).unwrap_err();
            assert!(error.message.contains(expected), "{query}: {error}");
        }
        for (query, expected) in [
            ("limit=0", "1 to 1000"),
            ("limit=1001", "1 to 1000"),
            ("before=x", "id"),
            ("outcome=fine", "ok,"),
        ] {
            assert!(calls(given(query)).unwrap_err().message.contains(expected), "{query}");
        }
        assert!(calls(given("limit=1000")).is_ok());
        assert!(Given::read(Some("team=%ff"), NOW_MS).is_err());
    }
}
