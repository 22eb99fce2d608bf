//! Which answers an operator wants gone, and how many went.
//!
//! Removes nothing itself. Answers that an earlier version stored do not say whom they were given to; only
//! their own name, their model and a purge of everything reach them.
//!
//! Invariant: a purge that names nothing is no purge, so that an empty question never empties the cache.

use bytes::Bytes;
use serde::Serialize;

use super::answer::StoredAnswer;
use super::index::EntryId;
use crate::team::{CallId, RouteName, TeamName};

/// What is to go.
#[derive(Debug, Clone, PartialEq)]
pub enum Purge {
    /// All answers of all teams.
    All,
    Entry(EntryId),
    Chosen(Chosen),
}

/// Answers with all of these marks; a mark that is not given is not looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chosen {
    pub team: Option<TeamName>,
    pub route: Option<RouteName>,
    /// The model that gave the answer.
    pub model: Option<String>,
    /// The call that the answer was given to.
    pub call: Option<CallId>,
}

/// Entries that are gone, by tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    pub n_exact: u64,
    pub n_semantic: u64,
}

impl Chosen {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an encoded answer, or the beginning of one, has all the marks.
    pub(super) fn takes(&self, answer: &Bytes) -> bool {
        let Ok(answer) = StoredAnswer::decode(answer) else { return false };
        let origin = answer.origin.as_ref();
        let is_all = self.call.is_none_or(|call| origin.is_some_and(|origin| origin.call == call))
            && self.team.as_ref().is_none_or(|team| origin.is_some_and(|origin| origin.team == *team))
            && self.route.as_ref().is_none_or(|route| origin.is_some_and(|origin| origin.route == *route))
            && self.model.as_ref().is_none_or(|model| answer.model == *model);
        is_all && !self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::sample_answer;
    use super::*;

    fn takes(chosen: &Chosen) -> bool {
        chosen.takes(&sample_answer("{}", 7).encode())
    }

    #[test]
    fn an_answer_is_taken_by_each_of_its_marks_and_by_all_together() {
        let call = Some(CallId::new(7, [3; 10]));
        let (team, route) = (Some(TeamName::from("team a")), Some(RouteName::from("auto")));
        let model = Some("small\nmodel".to_owned());

        for chosen in [
            Chosen { call, ..Chosen::default() },
            Chosen { team: team.clone(), ..Chosen::default() },
            Chosen { route: route.clone(), ..Chosen::default() },
            Chosen { model: model.clone(), ..Chosen::default() },
            Chosen { team: team.clone(), route, model, call },
        ] {
            assert!(takes(&chosen), "{chosen:?}");
        }
        for chosen in [
            Chosen { call: Some(CallId::new(7, [4; 10])), ..Chosen::default() },
            Chosen { team: Some(TeamName::from("team b")), ..Chosen::default() },
            Chosen { team, model: Some("large".to_owned()), ..Chosen::default() },
        ] {
            assert!(!takes(&chosen), "{chosen:?}");
        }
    }

    #[test]
    fn what_names_nothing_takes_nothing() {
        assert!(!takes(&Chosen::default()));
        assert!(!Chosen::default().takes(&Bytes::from_static(b"not an answer")));
    }

    #[test]
    fn an_answer_without_an_origin_is_reached_by_its_model_alone() {
        let old = StoredAnswer { origin: None, ..sample_answer("{}", 7) }.encode();
        let model = Some("small\nmodel".to_owned());

        assert!(Chosen { model: model.clone(), ..Chosen::default() }.takes(&old));
        assert!(!Chosen { team: Some(TeamName::from("team a")), model, ..Chosen::default() }.takes(&old));
    }
}
