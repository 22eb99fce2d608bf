//! Days, weeks and months of a time zone's calendar, as spans of milliseconds.
//!
//! Knows no budget and no clock.
//!
//! Invariants: the spans of a calendar follow each other without gap or overlap, whatever clocks are put
//! forward or back; a day is then 23 or 25 hours long.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) const MS_PER_DAY: i64 = 86_400_000;
/// 1970-01-05 was a Monday.
const FIRST_MONDAY_MS: i64 = 4 * MS_PER_DAY;

/// How long a budget lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    Day,
    Week,
    Month,
}

impl Window {
    pub const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    /// The first millisecond of the window around `ts_ms` in UTC, and of the one after it.
    pub fn bounds_ms(self, ts_ms: i64) -> (i64, i64) {
        match self {
            Self::Day => aligned(ts_ms, 0, MS_PER_DAY),
            Self::Week => aligned(ts_ms, FIRST_MONDAY_MS, 7 * MS_PER_DAY),
            Self::Month => {
                let Span { start_ms, end_ms } = span_in(self, &TimeZone::UTC, ts_ms);
                (start_ms, end_ms)
            }
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        })
    }
}

/// A time zone by its IANA name.
#[derive(Clone)]
pub struct Zone {
    /// `None` is UTC, whose days and weeks need no table.
    zone: Option<TimeZone>,
}

impl Zone {
    pub const UTC: Self = Self { zone: None };

    /// `None` where no time zone has this name.
    pub fn named(name: &str) -> Option<Self> {
        if name == "UTC" {
            return Some(Self::UTC);
        }
        let zone = TimeZone::get(name).ok().filter(|zone| zone.iana_name().is_some())?;
        Some(Self { zone: Some(zone) })
    }

    pub fn name(&self) -> &str {
        self.zone.as_ref().and_then(TimeZone::iana_name).unwrap_or("UTC")
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Self::named(&name).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{name}` is no IANA time zone, need a name such as `Europe/Berlin` or `UTC`"
            ))
        })
    }
}

/// Windows of one length in one time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pub per: Window,
    pub zone: Zone,
}

/// A stretch of time, its end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub start_ms: i64,
    pub end_ms: i64,
}

impl Span {
    pub fn contains(self, ts_ms: i64) -> bool {
        (self.start_ms..self.end_ms).contains(&ts_ms)
    }
}

impl Calendar {
    pub fn utc(per: Window) -> Self {
        Self { per, zone: Zone::UTC }
    }

    /// The window around `ts_ms`.
    pub fn span(&self, ts_ms: i64) -> Span {
        match &self.zone.zone {
            Some(zone) => span_in(self.per, zone, ts_ms),
            None => {
                let (start_ms, end_ms) = self.per.bounds_ms(ts_ms);
                Span { start_ms, end_ms }
            }
        }
    }
}

fn aligned(ts_ms: i64, origin_ms: i64, span_ms: i64) -> (i64, i64) {
    let start_ms = ts_ms - (ts_ms - origin_ms).rem_euclid(span_ms);
    (start_ms, start_ms + span_ms)
}

fn span_in(per: Window, zone: &TimeZone, ts_ms: i64) -> Span {
    let instant = Timestamp::from_millisecond(ts_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let date = instant.to_zoned(zone.clone()).date();
    let first = match per {
        Window::Day => date,
        Window::Week => {
            let n_days = i64::from(date.weekday().to_monday_zero_offset());
            date.checked_sub(n_days.days()).unwrap_or(Date::MIN)
        }
        Window::Month => date.first_of_month(),
    };
    let next = match per {
        Window::Day => first.checked_add(1.day()),
        Window::Week => first.checked_add(7.days()),
        Window::Month => first.checked_add(1.month()),
    };
    let next = next.unwrap_or(Date::MAX);
    Span { start_ms: first_instant_ms(first, zone), end_ms: first_instant_ms(next, zone) }
}

/// Midnight, or what the clock shows first where midnight is skipped.
fn first_instant_ms(date: Date, zone: &TimeZone) -> i64 {
    date.to_zoned(zone.clone()).map_or(i64::MAX, |midnight| midnight.timestamp().as_millisecond())
}
