//! Numbers as people read them: with a unit, grouped by thousands, and as long as they need to be.
//!
//! For eyes only: nothing is computed from what is written here, and sums stay in integers.
//!
//! Invariants: an amount that is not zero is never shown as zero; a share of nothing is a dash, not 0 %.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::money::NanoUsd;

/// What stands where there is no value.
pub(crate) const NOTHING: &str = "–";
const MINUS: &str = "−";
const NANOS: u64 = 1_000_000_000;

/// What a number counts; it decides how the number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Usd,
    Count,
    Percent,
    Ms,
}

impl Unit {
    /// For an axis: as short as it can be.
    pub(crate) fn short(self, value: f64) -> String {
        match self {
            Self::Usd if value.abs() >= 1_000.0 => signed(value, |size| format!("${}", plain(&scaled(size)))),
            Self::Usd => signed(value, |size| format!("${}", trimmed(size))),
            Self::Count => signed(value, |size| plain(&scaled(size))),
            Self::Percent => signed(value, |size| format!("{} %", trimmed(size))),
            Self::Ms => signed(value, |size| plain(&duration(size))),
        }
    }

    /// For a table or a tooltip: as exact as is of use.
    pub(crate) fn long(self, value: f64) -> String {
        match self {
            Self::Usd => usd(NanoUsd::new((value * NANOS as f64).round() as i64)),
            Self::Count => signed(value, |size| grouped(size.round() as u64)),
            Self::Percent => signed(value, |size| format!("{size:.1} %")),
            Self::Ms => signed(value, duration),
        }
    }
}

fn signed(value: f64, write: impl Fn(f64) -> String) -> String {
    let sign = if value < 0.0 { MINUS } else { "" };
    format!("{sign}{}", write(value.abs()))
}

/// `$1,234.56`; below a dollar up to four decimals, and below that two figures that count.
pub(crate) fn usd(amount: NanoUsd) -> String {
    let sign = if amount < NanoUsd::ZERO { MINUS } else { "" };
    let nanos = amount.get().unsigned_abs();
    let n_decimals = match nanos {
        0 => 2,
        _ if nanos >= NANOS => 2,
        _ if nanos >= NANOS / 1_000 => 4,
        _ => (10 - nanos.ilog10() as usize).min(9),
    };
    let step = 10_u64.pow(9 - u32::try_from(n_decimals).unwrap_or(9));
    let rounded = nanos.saturating_add(step / 2) / step;
    let per_usd = NANOS / step;
    format!("{sign}${}.{:0n_decimals$}", grouped(rounded / per_usd), rounded % per_usd)
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `999`, `12.3 k`, `1.20 M`, `4.50 G`.
pub(crate) fn tokens(number: u64) -> String {
    scaled(number as f64)
}

fn scaled(size: f64) -> String {
    for (from, unit) in [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")] {
        if size >= from {
            let per_unit = if from < 1e6 { 1e3 } else { from };
            return format!("{}{unit}", figures(size / per_unit));
        }
    }
    if size.fract() == 0.0 { grouped(size as u64) } else { trimmed(size) }
}

/// Three figures that count.
fn figures(size: f64) -> String {
    let n_decimals = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else {
        2
    };
    format!("{size:.n_decimals$}")
}

/// A number and its unit without zeros that say nothing.
fn plain(text: &str) -> String {
    let (number, unit) =
        text.split_once(' ').map_or((text, ""), |(number, _)| (number, &text[number.len()..]));
    match number.contains('.') {
        true => format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.')),
        false => text.to_owned(),
    }
}

/// As many decimals as a step of an axis needs.
fn trimmed(size: f64) -> String {
    let text = match size {
        _ if size >= 1.0 || size == 0.0 => format!("{size:.2}"),
        _ if size >= 0.01 => format!("{size:.3}"),
        _ => format!("{size:.9}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A part of a whole: `12.3 %`.
pub(crate) fn percent(part: f64, whole: f64) -> String {
    if whole == 0.0 || !(part / whole).is_finite() {
        return NOTHING.to_owned();
    }
    let share = part / whole * 100.0;
    let text = signed(share, |size| format!("{size:.1} %"));
    if part != 0.0 && share.abs() < 0.05 { "<0.1 %".to_owned() } else { text }
}

/// A share of counted things.
pub(crate) fn share(part: u64, whole: u64) -> String {
    percent(part as f64, whole as f64)
}

/// `0.4 ms`, `340 ms`, `1.24 s`, `2 min 5 s`, `3 h 20 min`, `12 days`.
pub(crate) fn duration(ms: f64) -> String {
    match ms {
        _ if ms == 0.0 => "0 ms".to_owned(),
        _ if ms < 9.95 => format!("{} ms", trimmed((ms * 100.0).round().max(1.0) / 100.0)),
        _ if ms < 999.5 => format!("{ms:.0} ms"),
        _ if ms < 59_950.0 => format!("{} s", figures(ms / 1_000.0)),
        _ if ms < 3_600_000.0 => {
            let s = (ms / 1_000.0).round() as u64;
            format!("{} min {} s", s / 60, s % 60)
        }
        _ if ms < 2.0 * 86_400_000.0 => {
            let minutes = (ms / 60_000.0).round() as u64;
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
        _ => format!("{:.0} days", ms / 86_400_000.0),
    }
}

/// `0 B`, `12.3 kB`, `1.20 MB`.
pub(crate) fn bytes(n_bytes: u64) -> String {
    match n_bytes {
        0..1_000 => format!("{n_bytes} B"),
        1_000..1_000_000 => format!("{} kB", figures(n_bytes as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", figures(n_bytes as f64 / 1e6)),
        _ => format!("{} GB", figures(n_bytes as f64 / 1e9)),
    }
}

/// A moment in UTC, written by `strftime`'s rules.
pub(crate) fn time(ts_ms: i64, how: &str) -> String {
    let Ok(moment) = Timestamp::from_millisecond(ts_ms) else { return NOTHING.to_owned() };
    moment.to_zoned(TimeZone::UTC).strftime(how).to_string()
}

/// The same by the clocks of a time zone; UTC where nobody knows its name.
pub(crate) fn time_in(zone: &str, ts_ms: i64, how: &str) -> String {
    let Ok(moment) = Timestamp::from_millisecond(ts_ms) else { return NOTHING.to_owned() };
    moment.to_zoned(TimeZone::get(zone).unwrap_or(TimeZone::UTC)).strftime(how).to_string()
}

/// `3 Nov 2026, 14:05:09`.
pub(crate) fn moment(ts_ms: i64) -> String {
    time(ts_ms, "%-d %b %Y, %H:%M:%S")
}

/// A name as it is shown: what has none is said so.
pub(crate) fn name(name: &str) -> &str {
    if name.is_empty() { "(none)" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_have_as_many_decimals_as_they_need() {
        for (nanos, shown) in [
            (0, "$0.00"),
            (1, "$0.000000001"),
            (31, "$0.000000031"),
            (12_345, "$0.000012"),
            (999_999, "$0.00100"),
            (1_000_000, "$0.0010"),
            (123_400_000, "$0.1234"),
            (999_999_999, "$1.0000"),
            (1_000_000_000, "$1.00"),
            (1_005_000_000, "$1.01"),
            (1_234_567_890_000, "$1,234.57"),
            (-2_500_000_000, "−$2.50"),
            (i64::MAX, "$9,223,372,036.85"),
            (i64::MIN, "−$9,223,372,036.85"),
        ] {
            assert_eq!(usd(NanoUsd::new(nanos)), shown, "{nanos}");
        }
    }

    #[test]
    fn an_amount_that_is_not_zero_is_never_shown_as_zero() {
        for exponent in 0..19 {
            let shown = usd(NanoUsd::new(10_i64.pow(exponent)));
            assert!(shown.chars().any(|c| ('1'..='9').contains(&c)), "{shown}");
        }
    }

    #[test]
    fn counts_are_grouped_and_tokens_scaled() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let shown = [0, 999, 9_999, 12_345, 999_499, 1_200_000, 45_000_000_000].map(tokens);
        assert_eq!(shown, ["0", "999", "9,999", "12.3 k", "999 k", "1.20 M", "45.0 G"]);
    }

    #[test]
    fn durations_change_their_unit_with_their_size() {
        for (ms, shown) in [
            (0.0, "0 ms"),
            (0.0001, "0.01 ms"),
            (0.42, "0.42 ms"),
            (9.9, "9.9 ms"),
            (340.2, "340 ms"),
            (999.4, "999 ms"),
            (1_240.0, "1.24 s"),
            (59_940.0, "59.9 s"),
            (125_000.0, "2 min 5 s"),
            (12_000_000.0, "3 h 20 min"),
            (1_036_800_000.0, "12 days"),
        ] {
            assert_eq!(duration(ms), shown, "{ms}");
        }
    }

    #[test]
    fn a_share_of_nothing_is_a_dash_and_a_small_one_is_not_zero() {
        assert_eq!(share(0, 0), NOTHING);
        assert_eq!(share(0, 10), "0.0 %");
        assert_eq!(share(1, 10_000), "<0.1 %");
        assert_eq!(share(1, 8), "12.5 %");
        assert_eq!(percent(-1.0, 4.0), "−25.0 %");
        assert_eq!(percent(1.0, f64::NAN), NOTHING);
    }

    #[test]
    fn axes_are_short() {
        assert_eq!(Unit::Usd.short(0.25), "$0.25");
        assert_eq!(Unit::Usd.short(1_500.0), "$1,500");
        assert_eq!(Unit::Usd.short(15_000.0), "$15 k");
        assert_eq!(Unit::Usd.short(-20.0), "−$20");
        assert_eq!(Unit::Count.short(2_000_000.0), "2 M");
        assert_eq!(Unit::Percent.short(12.5), "12.5 %");
        assert_eq!(Unit::Ms.short(250.0), "250 ms");
        assert_eq!(Unit::Ms.short(2_000.0), "2 s");
        assert_eq!(Unit::Ms.long(2_000.0), "2.00 s");
        assert_eq!(Unit::Usd.long(12.345), "$12.35");
    }

    #[test]
    fn bytes_and_times_are_written_for_people() {
        assert_eq!([0, 999, 12_300, 4_200_000].map(bytes), ["0 B", "999 B", "12.3 kB", "4.20 MB"]);
        assert_eq!(moment(1_000_000_000_000), "9 Sep 2001, 01:46:40");
        assert_eq!(time(i64::MAX, "%F"), NOTHING);
    }
}
