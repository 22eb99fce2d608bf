//! What a page may read: the book, seen by one viewer for one question.
//!
//! The only file of the dashboard that asks the ledger, so that no page can forget whose calls it may show.
//!
//! Invariants: for a viewer with a team of its own every question is asked with that team, whatever the
//! URL says, and a call of another team is not there; nothing is ever written.

use std::sync::Arc;

use super::range::{Ask, Grain, Span};
use crate::gateway::{Gateway, Live};
use crate::ledger::entry::Entry;
use crate::ledger::report::{
    By, CallsAsk, Figures, Filter, LatencyAsk, LatencyBy, LatencyRow, SpendAsk, SpendRow, Step, Sums,
};
use crate::ledger::text::CallText;
use crate::money::NanoUsd;
use crate::server::standing::{Standing, standings};
use crate::server::viewer::Viewer;
use crate::team::{CallId, RouteName, TeamName};

/// Calls on one page of the list.
pub(super) const N_CALLS: u32 = 50;
/// Who was silent for longer is found by a link or by name; all names would cost a look at every sum.
const N_DAYS_OF_NAMES: i64 = 7;

/// The ledger did not answer, in a sentence for the operator.
#[derive(Debug)]
pub(super) struct Unread(pub(super) String);

pub(super) type Read<T> = Result<T, Unread>;

pub(super) struct Book<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) live: Arc<Live>,
    pub(super) viewer: &'a Viewer,
    pub(super) ask: Ask,
    pub(super) now_ms: i64,
    pub(super) span: Span,
    /// The team that every question is about; `None` for all teams.
    team: Option<TeamName>,
}

impl<'a> Book<'a> {
    pub(super) fn open(gateway: &'a Gateway, viewer: &'a Viewer, mut ask: Ask) -> Self {
        if let Viewer::Team(own) = viewer {
            if ask.team.as_deref().is_some_and(|asked| asked != own.as_str()) {
                ask.notices.push(format!("Your key is of team {own}, so its calls alone are shown."));
            }
            ask.team = Some(own.as_str().to_owned());
        }
        let now_ms = gateway.clock.now_ms();
        let team = ask.team.as_deref().map(TeamName::from);
        let span = ask.range.span(now_ms);
        Self { gateway, live: gateway.live(), viewer, ask, now_ms, span, team }
    }

    /// Whether there are other teams to see.
    pub(super) fn sees_all(&self) -> bool {
        match self.viewer {
            Viewer::Operator => true,
            Viewer::Team(_) => false,
        }
    }

    /// Whether nobody needs a key, because none is configured.
    pub(super) fn is_open(&self) -> bool {
        self.live.key_ring().is_open() && !self.live.admin().is_set()
    }

    /// The team that every number on the page is of.
    pub(super) fn team(&self) -> Option<&TeamName> {
        self.team.as_ref()
    }

    /// What every question of the page is narrowed to.
    pub(super) fn filter(&self) -> Filter {
        let route = self.ask.route.as_deref().map(RouteName::from);
        self.viewer.narrow(Filter { team: self.team.clone(), route, ..Filter::default() })
    }

    /// Sums a column of the range.
    pub(super) async fn by_time(&self, by: &[By], figures: Figures) -> Read<Vec<SpendRow>> {
        let step = match self.span.grain {
            Grain::Hour => Step::Hour,
            Grain::Day => Step::Day,
        };
        self.spend((by, figures), step, self.span).await
    }

    /// Calls and cost an hour of the range's last days.
    pub(super) async fn spent_by_hour(&self, n_days: i64) -> Read<Vec<SpendRow>> {
        self.spend((&[], Figures::Spent), Step::Hour, self.span.last_days(n_days)).await
    }

    /// Sums of the whole range.
    pub(super) async fn whole(&self, by: &[By], figures: Figures) -> Read<Vec<SpendRow>> {
        self.spend((by, figures), Step::Whole, self.span).await
    }

    /// Calls and cost of the range's last days.
    pub(super) async fn spent_of_last(&self, n_days: i64, by: &[By]) -> Read<Vec<SpendRow>> {
        self.spend((by, Figures::Spent), Step::Whole, self.span.last_days(n_days)).await
    }

    /// All calls and their cost in a span of its own, with the page's filters.
    pub(super) async fn spent_in(&self, span: Span) -> Read<Sums> {
        let rows = self.spend((&[], Figures::Spent), Step::Whole, span).await?;
        Ok(sum(&rows))
    }

    /// Calls and cost a day in a span of its own, with the page's filters.
    pub(super) async fn spent_by_day(&self, span: Span) -> Read<Vec<SpendRow>> {
        self.spend((&[], Figures::Spent), Step::Day, span).await
    }

    async fn spend(&self, (by, figures): (&[By], Figures), step: Step, span: Span) -> Read<Vec<SpendRow>> {
        let Span { from_ms, to_ms, .. } = span;
        let ask = SpendAsk { by: by.to_vec(), step, figures, from_ms, to_ms, filter: self.filter() };
        self.gateway.ledger.reports().spend(&ask).await.map_err(unread)
    }

    /// Names of teams and routes in the range's last days, whatever is chosen now.
    pub(super) async fn names(&self) -> Read<Vec<(String, String)>> {
        let filter = self.viewer.narrow(Filter::default());
        let Span { from_ms, to_ms, .. } = self.span.last_days(N_DAYS_OF_NAMES);
        let spent = SpendAsk::over(&[By::Team, By::Route], from_ms, to_ms);
        let ask = SpendAsk { filter, figures: Figures::Spent, ..spent };
        let rows = self.gateway.ledger.reports().spend(&ask).await.map_err(unread)?;
        let pair = |row: SpendRow| {
            let mut names = row.names.into_iter();
            Some((names.next()?, names.next()?))
        };
        Ok(rows.into_iter().filter_map(pair).collect())
    }

    pub(super) async fn latency(&self, by: Option<LatencyBy>) -> Read<Vec<LatencyRow>> {
        let Span { from_ms, to_ms, .. } = self.span;
        let Filter { team, route, .. } = self.filter();
        let ask = LatencyAsk { by, from_ms, to_ms, team, route, split: None };
        self.gateway.ledger.reports().latency(&ask).await.map_err(unread)
    }

    /// How long all calls took, and those of each column of the range.
    pub(super) async fn latency_by_time(&self) -> Read<(Option<LatencyRow>, Vec<LatencyRow>)> {
        let by = match self.span.grain {
            Grain::Hour => LatencyBy::Hour,
            Grain::Day => LatencyBy::Day,
        };
        let Span { from_ms, to_ms, .. } = self.span;
        let Filter { team, route, .. } = self.filter();
        let ask = LatencyAsk { by: Some(by), from_ms, to_ms, team, route, split: None };
        self.gateway.ledger.reports().latency_with_whole(&ask).await.map_err(unread)
    }

    /// How long the calls of each arm took, by `split=arm`.
    pub(super) async fn latency_of_arms(&self) -> Read<Vec<LatencyRow>> {
        self.latency(Some(LatencyBy::SplitArm)).await
    }

    /// One page of calls, and whether there is another one behind it.
    pub(super) async fn calls(&self) -> Read<(Vec<Entry>, bool)> {
        let Span { from_ms, to_ms, .. } = self.span;
        let (text, outcome, before) = (self.ask.search.clone(), self.ask.outcome, self.ask.before);
        let (filter, limit) = (self.filter(), N_CALLS + 1);
        let ask = CallsAsk { from_ms, to_ms, filter, outcome, text, before, limit };
        let mut calls = self.gateway.ledger.reports().calls(&ask).await.map_err(unread)?;
        let has_more = calls.len() > N_CALLS as usize;
        calls.truncate(N_CALLS as usize);
        Ok((calls, has_more))
    }

    /// The newest calls of the range that a path answered.
    pub(super) async fn calls_by_path(&self, path: &str, limit: u32) -> Read<Vec<Entry>> {
        let Span { from_ms, to_ms, .. } = self.span;
        let filter = Filter { path: Some(path.to_owned()), ..self.filter() };
        let ask = CallsAsk { from_ms, to_ms, filter, limit, ..CallsAsk::default() };
        self.gateway.ledger.reports().calls(&ask).await.map_err(unread)
    }

    /// One call and its text, where that is kept; `None` where there is none, or it is another team's.
    pub(super) async fn call_with_text(&self, id: CallId) -> Read<Option<(Entry, Option<CallText>)>> {
        let found = self.gateway.ledger.reports().call(id).await.map_err(unread)?;
        let Some(entry) = found.filter(|entry| self.viewer.may_see(&entry.team)) else { return Ok(None) };
        let text = self.gateway.ledger.texts().of(id).await.map_err(unread)?;
        Ok(Some((entry, text)))
    }

    /// Whether the text of a team's calls is kept now.
    pub(super) fn keeps_text(&self, team: &TeamName) -> bool {
        self.live.key_ring().teams().any(|known| known.name == *team && known.text.is_some())
    }

    /// How the budgets of the page's team, or of all teams, stand.
    pub(super) async fn budgets(&self) -> Read<Vec<Standing>> {
        standings(self.gateway, self.viewer, self.team(), self.now_ms).await.map_err(unread)
    }

    /// What was spent of a budget in each of its hours or days.
    pub(super) async fn burned(&self, standing: &Standing) -> Read<Vec<NanoUsd>> {
        if !self.viewer.may_see(&standing.team) {
            return Ok(Vec::new());
        }
        let (reports, edges_ms) = (self.gateway.ledger.reports(), standing.edges_ms());
        reports.burned(&standing.team, &standing.subject(), &edges_ms).await.map_err(unread)
    }
}

fn unread(error: impl std::fmt::Display) -> Unread {
    Unread(error.to_string())
}

/// All rows together.
pub(super) fn sum(rows: &[SpendRow]) -> Sums {
    let mut sums = Sums::default();
    rows.iter().for_each(|row| sums.add(&row.sums));
    sums
}

/// Rows with the same name at `idx` together, the greatest `value` first.
pub(super) fn grouped(rows: &[SpendRow], idx: usize, value: fn(&Sums) -> f64) -> Vec<(String, Sums)> {
    let mut groups = std::collections::BTreeMap::<&str, Sums>::new();
    for row in rows {
        groups.entry(row.names.get(idx).map_or("", String::as_str)).or_default().add(&row.sums);
    }
    let mut groups: Vec<(String, Sums)> =
        groups.into_iter().map(|(name, sums)| (name.to_owned(), sums)).collect();
    groups.sort_by(|(_, a), (_, b)| value(b).total_cmp(&value(a)));
    groups
}
