//! A/B splits: which arm of an experiment a call belongs to, and its route as that arm sees it.
//!
//! Pure. Does not read a unit off a call, counts nothing and judges no winner.
//!
//! Invariants: the same split and unit always have the same arm; an arm of share 0 is never chosen; a route
//! has at most one split; every arm's route has the rungs of the route it was made from, and its baseline.

mod check;
mod config;
mod layout;

pub use check::Given;
pub use config::{ArmCache, ArmConfig, Guardrail, Metric, SplitConfig, Unit, UpstreamsOverride};
pub use layout::WHOLE;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Catalog, Mistakes, Route};
use crate::team::{ArmName, RouteName, SplitName};
use layout::Owners;

/// The splits in force, by the route they divide.
#[derive(Debug, Clone, Default)]
pub struct Splits(BTreeMap<RouteName, Arc<Split>>);

impl Splits {
    /// Checks splits against the routes and upstreams there are, as far as those could be read.
    /// `min_similarity` is the semantic cache's: an arm may ask for more, not for less.
    pub fn try_new(
        given: &[Given],
        catalog: Option<&Catalog>,
        min_similarity: f32,
    ) -> Result<Self, Mistakes> {
        check::read_all(given, catalog, min_similarity).map(Self)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Split> {
        self.0.values().map(AsRef::as_ref)
    }

    /// The headers that units are read from, in lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.iter().filter_map(|split| match &split.unit {
            Unit::Header(name) => Some(name.as_str()),
            Unit::User | Unit::Conversation | Unit::Key => None,
        })
    }

    /// The arm of a call to `route`; `unit_of` reads the unit off the call, where it has one.
    pub fn assign<'a>(
        &self,
        route: &RouteName,
        unit_of: impl FnOnce(&Unit) -> Option<Cow<'a, str>>,
    ) -> Assignment {
        let Some(split) = self.0.get(route) else {
            return Assignment::NoSplit;
        };
        match unit_of(&split.unit) {
            Some(unit) => {
                Assignment::Arm(Assigned { arm_idx: split.arm_idx(&unit), split: Arc::clone(split) })
            }
            None => Assignment::NoUnit(Arc::clone(split)),
        }
    }
}

/// One experiment on one route.
#[derive(Debug)]
pub struct Split {
    /// Its name, and the salt of its hash.
    pub name: SplitName,
    pub route: RouteName,
    pub unit: Unit,
    arms: Vec<Arm>,
    /// The arm that the others take their units from, and are measured against.
    control_idx: usize,
    owners: Owners,
    /// What the experiment is decided by. Kept; nothing reads it yet.
    pub primary: Option<Metric>,
    /// What an arm must not make worse. Kept; nothing reads them yet.
    pub guardrails: Vec<Guardrail>,
}

/// A variant of an experiment.
#[derive(Debug)]
pub struct Arm {
    pub name: ArmName,
    /// Basis points.
    pub share: u32,
    /// The split's route with what this arm changes.
    pub route: Route,
    pub cache: ArmCache,
    changes: String,
}

impl Arm {
    /// What it changes, for people; empty where it changes nothing.
    pub fn changes(&self) -> &str {
        &self.changes
    }
}

impl Split {
    /// The arm of a unit.
    pub fn arm_of(&self, unit: &str) -> &Arm {
        &self.arms[self.arm_idx(unit)]
    }

    fn arm_idx(&self, unit: &str) -> usize {
        self.owners.at(position(&self.name, unit))
    }

    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    pub fn control(&self) -> &Arm {
        &self.arms[self.control_idx]
    }
}

/// Where a unit falls in [0, 1), in parts of 2^64.
fn position(salt: &SplitName, unit: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    // No name holds a zero byte, so a salt and its unit are never another salt and another unit.
    hasher.update(salt.as_str().as_bytes()).update(b"\0").update(unit.as_bytes());
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// How a split and a call came together.
#[derive(Debug, Clone)]
pub enum Assignment {
    /// The call's route has no split.
    NoSplit,
    /// The call has nothing that could be kept in one arm, so it is answered as if there were no split.
    NoUnit(Arc<Split>),
    Arm(Assigned),
}

impl Assignment {
    pub fn arm(&self) -> Option<&Assigned> {
        match self {
            Self::Arm(assigned) => Some(assigned),
            Self::NoSplit | Self::NoUnit(_) => None,
        }
    }
}

/// The arm of a call. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Assigned {
    split: Arc<Split>,
    arm_idx: usize,
}

impl Assigned {
    pub fn split(&self) -> &Split {
        &self.split
    }

    pub fn arm(&self) -> &Arm {
        &self.split.arms[self.arm_idx]
    }
}

/// One line for `stiver check`.
impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: route {} by {}: ", self.name, self.route, self.unit)?;
        for (idx, arm) in self.arms.iter().enumerate() {
            let separator = if idx > 0 { " | " } else { "" };
            let percent = f64::from(arm.share) / 100.0;
            let role = if idx == self.control_idx { ", the control" } else { "" };
            write!(f, "{separator}{} ({percent} %{role})", arm.name)?;
            if !arm.changes.is_empty() {
                write!(f, ": {}", arm.changes)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
