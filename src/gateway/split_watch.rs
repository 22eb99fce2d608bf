//! Notices a split that no call comes to: a header nobody sends, a route nobody asks for.
//!
//! Does not count calls; the metrics do. What it remembers ends with the process.
//!
//! Invariants: time is passed in; a split is told of once a day for as long as it is idle; one that is no
//! longer in force is forgotten.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::Gateway;
use crate::team::SplitName;
use crate::telemetry::events::SplitWatched;

const DAY_MS: i64 = 86_400_000;

/// When each split last put a call into an arm.
#[derive(Debug, Default)]
pub struct SplitWatch(Mutex<BTreeMap<SplitName, Watched>>);

#[derive(Debug, Clone, Copy)]
struct Watched {
    /// The last call, or when the split came into force.
    since_ms: i64,
    told_ms: i64,
}

/// A split as it was found.
#[derive(Debug, PartialEq, Eq)]
struct Sighting {
    split: SplitName,
    is_idle: bool,
    is_news: bool,
}

impl SplitWatch {
    /// A call was put into one of its arms.
    pub fn matched(&self, split: &SplitName, now_ms: i64) {
        let now = Watched { since_ms: now_ms, told_ms: now_ms };
        let mut watched = self.0.lock();
        match watched.get_mut(split) {
            Some(known) => *known = now,
            None => drop(watched.insert(split.clone(), now)),
        }
    }

    /// Looks after the splits in force, and gives up those that are not.
    fn look<'a>(&self, in_force: impl Iterator<Item = &'a SplitName>, now_ms: i64) -> Vec<Sighting> {
        let mut watched = self.0.lock();
        let before = std::mem::take(&mut *watched);
        let mut sightings = Vec::new();
        for split in in_force {
            let fresh = Watched { since_ms: now_ms, told_ms: now_ms };
            let mut known = before.get(split).copied().unwrap_or(fresh);
            let is_idle = now_ms - known.since_ms >= DAY_MS;
            let is_news = now_ms - known.told_ms >= DAY_MS;
            if is_news {
                known.told_ms = now_ms;
            }
            sightings.push(Sighting { split: split.clone(), is_idle, is_news });
            watched.insert(split.clone(), known);
        }
        let gone = before.into_keys().filter(|split| !watched.contains_key(split));
        sightings.extend(gone.map(|split| Sighting { split, is_idle: false, is_news: false }));
        sightings
    }
}

impl Gateway {
    /// Tells of splits that no call came to for a day; the names of those told of now.
    pub fn watch_splits(&self) -> Vec<SplitName> {
        let live = self.live();
        let names = live.config.splits.iter().map(|split| &split.name);
        let sightings = self.split_watch.look(names, self.clock.now_ms());
        for Sighting { split, is_idle, is_news } in &sightings {
            SplitWatched { split: split.as_str(), is_idle: *is_idle, is_news: *is_news }.emit();
        }
        sightings.into_iter().filter(|sighting| sighting.is_news).map(|sighting| sighting.split).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_idle_after_a_day_without_a_call_and_told_of_once_a_day() {
        let (watch, split) = (SplitWatch::default(), SplitName::from("a"));
        let look = |now_ms| {
            let seen = watch.look([&split].into_iter(), now_ms).remove(0);
            (seen.is_idle, seen.is_news)
        };

        assert_eq!(look(5), (false, false));
        assert_eq!(look(5 + DAY_MS - 1), (false, false));
        assert_eq!(look(5 + DAY_MS), (true, true));
        assert_eq!(look(6 + DAY_MS), (true, false));
        assert_eq!(look(5 + 2 * DAY_MS), (true, true));
        watch.matched(&split, 5 + 2 * DAY_MS);
        assert_eq!(look(5 + 2 * DAY_MS), (false, false));
        assert_eq!(look(5 + 3 * DAY_MS), (true, true));
    }

    #[test]
    fn a_split_that_is_no_longer_in_force_is_forgotten() {
        let (watch, split) = (SplitWatch::default(), SplitName::from("a"));
        watch.look([&split].into_iter(), 0);

        let gone = watch.look(std::iter::empty(), 2 * DAY_MS);
        let again = watch.look([&split].into_iter(), 2 * DAY_MS);

        assert_eq!(gone, [Sighting { split: split.clone(), is_idle: false, is_news: false }]);
        assert_eq!(again, gone);
        assert!(watch.look(std::iter::empty(), 3 * DAY_MS).len() == 1);
        assert!(watch.look(std::iter::empty(), 3 * DAY_MS).is_empty());
    }
}
