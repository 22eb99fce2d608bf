//! The accounts of every team, its keys and its users, in memory.
//!
//! Users are named by whoever calls, so their number is bounded: beyond [`MAX_USERS`] a team's further users
//! share one account, and an account nobody spent from is not kept.
//!
//! Invariants: an account exists for the windows that a budget of its team names, and (where this is no
//! mirror) for the team's UTC day, week and month, which are shown to people; windows that ended a day ago and hold nothing are dropped.

use std::collections::HashMap;
use std::sync::Arc;

use super::window::MS_PER_DAY;
use super::{AccountId, Balance, Budget, Calendar, Exceeded, Of, OnExceed, Payer, Standing, Subject};
use super::{Warning, Window};
use crate::money::NanoUsd;
use crate::team::TeamName;

/// Accounts of users that one team may have; a few hundred bytes each.
pub(super) const MAX_USERS: usize = 50_000;
/// The account that users beyond [`MAX_USERS`] share. No header can hold a zero byte.
const OTHERS: &str = "\0others";
/// How long an ended window is kept, for calls that began in it and for whoever asks.
const KEPT_FOR_MS: i64 = MS_PER_DAY;
const SWEEP_EVERY_MS: i64 = 3_600_000;

/// What is spent and held in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    pub spent: NanoUsd,
    pub held: NanoUsd,
    /// The highest soft line that was told in this window.
    told: NanoUsd,
}

/// Money set aside in all windows of a call. Give it back through [`Books::settle`].
#[derive(Debug)]
#[must_use = "money that is not settled stays held"]
pub struct Reserved {
    pub(super) payer: Payer,
    pub(super) ts_ms: i64,
    amount: NanoUsd,
    accounts: Vec<AccountId>,
}

impl Reserved {
    pub fn payer(&self) -> &Payer {
        &self.payer
    }
}

/// The balances of every team.
#[derive(Debug, Default)]
pub struct Books {
    teams: HashMap<TeamName, TeamBooks>,
    /// The truth is elsewhere, so what is released may be more than is held here.
    is_mirror: bool,
}

#[derive(Debug)]
pub(super) struct TeamBooks {
    /// Whose accounts are kept, and for which windows.
    calendars: Vec<(Of, Calendar)>,
    pub(super) accounts: HashMap<AccountId, Account>,
    n_users: usize,
    swept_ms: i64,
}

impl Books {
    /// Books that repeat what is kept elsewhere.
    pub fn mirror() -> Self {
        Self { teams: HashMap::new(), is_mirror: true }
    }

    /// Keeps accounts for the windows that `budgets` name; those that are new, whose past is not known here.
    pub fn follow(&mut self, team: &TeamName, budgets: &[Budget]) -> Vec<(Of, Calendar)> {
        let team = self.team(team);
        let mut opened = Vec::new();
        for budget in budgets {
            let named = (budget.of, budget.calendar());
            if !team.calendars.contains(&named) {
                team.calendars.push(named.clone());
                opened.push(named);
            }
        }
        opened
    }

    /// Takes back what [`Books::follow`] began, because the past could not be read.
    pub fn unfollow(&mut self, team: &TeamName, opened: &[(Of, Calendar)]) {
        self.team(team).calendars.retain(|known| !opened.contains(known));
    }

    /// Sets `ceiling` aside in all accounts of the call if every one of `budgets` covers it.
    ///
    /// # Panics
    ///
    /// On a negative ceiling, which would widen the budget it is held against.
    pub fn hold(
        &mut self,
        payer: &Payer,
        ts_ms: i64,
        ceiling: NanoUsd,
        budgets: &[Budget],
    ) -> Result<Reserved, Exceeded> {
        assert!(ceiling >= NanoUsd::ZERO, "a ceiling is never negative, got {ceiling}");
        self.follow(&payer.team, budgets);
        match self.exceeded(payer, ts_ms, ceiling, budgets) {
            Some(exceeded) => Err(exceeded),
            None => Ok(self.reserve(payer, ts_ms, ceiling)),
        }
    }

    /// Sets `ceiling` aside without asking any budget.
    pub fn reserve(&mut self, payer: &Payer, ts_ms: i64, ceiling: NanoUsd) -> Reserved {
        let team = self.team(&payer.team);
        team.sweep(ts_ms);
        let accounts = team.accounts_of(payer, ts_ms);
        for id in &accounts {
            team.account(id).held += ceiling;
        }
        Reserved { payer: payer.clone(), ts_ms, amount: ceiling, accounts }
    }

    /// Releases what was held and books what was really spent.
    pub fn settle(&mut self, reserved: Reserved, cost: NanoUsd) {
        let Reserved { payer, ts_ms, amount, accounts } = reserved;
        // What is spent goes in first, so that an account with nothing held is not dropped in between.
        self.spend(&payer, ts_ms, cost);
        let is_mirror = self.is_mirror;
        let team = self.team(&payer.team);
        for id in &accounts {
            let account = team.account(id);
            assert!(is_mirror || account.held >= amount, "what is released was held before");
            account.held -= amount.min(account.held);
            team.drop_if_empty(id);
        }
    }

    /// As [`Books::settle`]; the soft lines that were passed by it.
    pub fn settle_and_tell(&mut self, reserved: Reserved, cost: NanoUsd, budgets: &[Budget]) -> Vec<Warning> {
        if budgets.iter().all(|budget| budget.soft_line().is_none()) {
            self.settle(reserved, cost);
            return Vec::new();
        }
        let (payer, ts_ms) = (reserved.payer.clone(), reserved.ts_ms);
        self.settle(reserved, cost);
        self.newly_passed(&payer, ts_ms, budgets)
    }

    /// Books a cost that no hold preceded.
    pub fn spend(&mut self, payer: &Payer, ts_ms: i64, cost: NanoUsd) {
        if cost == NanoUsd::ZERO {
            return;
        }
        let team = self.team(&payer.team);
        for id in team.accounts_of(payer, ts_ms) {
            team.account(&id).spent += cost;
        }
    }

    /// Adds what the database has for an account; soft lines passed before are taken as told.
    pub fn add_past(&mut self, team: &TeamName, id: &AccountId, spent: NanoUsd) {
        let account = self.team(team).account(id);
        account.spent += spent;
        account.told = account.spent;
    }

    /// Notes how an account stands elsewhere.
    pub fn note(&mut self, team: &TeamName, id: &AccountId, spent: NanoUsd, held: NanoUsd) {
        let team = self.team(team);
        let account = team.account(id);
        (account.spent, account.held) = (spent, held);
        team.drop_if_empty(id);
    }

    /// How the team as a whole stands in a window of UTC.
    pub fn balance(&self, team: &TeamName, window: Window, ts_ms: i64) -> Balance {
        let id = AccountId { subject: Subject::Team, span: Calendar::utc(window).span(ts_ms) };
        self.balance_of(team, &id)
    }

    pub fn balance_of(&self, team: &TeamName, id: &AccountId) -> Balance {
        let account = self.teams.get(team).and_then(|team| team.accounts.get(id));
        let Account { spent, held, .. } = account.copied().unwrap_or_default();
        Balance { spent, held, resets_at_ms: id.span.end_ms }
    }

    /// How each of `budgets` stands for a call.
    pub fn standings<'a>(
        &'a self,
        payer: &'a Payer,
        ts_ms: i64,
        budgets: &'a [Budget],
    ) -> impl Iterator<Item = Standing> + 'a {
        budgets.iter().map(move |budget| {
            let id = self.account_id(payer, budget.of, &budget.calendar(), ts_ms);
            let balance = self.balance_of(&payer.team, &id);
            Standing { budget: budget.clone(), subject: id.subject, balance }
        })
    }

    /// What the tightest of the hard `budgets` still has; `None` where there is none.
    pub fn remaining(&self, payer: &Payer, ts_ms: i64, budgets: &[Budget]) -> Option<NanoUsd> {
        let hard = self.standings(payer, ts_ms, budgets).filter(|at| at.budget.is_hard());
        hard.map(|at| at.balance.remaining(&at.budget)).min()
    }

    /// The budget that cannot cover `ceiling`; one that refuses goes before one that allows local answers.
    pub fn exceeded(
        &self,
        payer: &Payer,
        ts_ms: i64,
        ceiling: NanoUsd,
        budgets: &[Budget],
    ) -> Option<Exceeded> {
        self.standings(payer, ts_ms, budgets)
            .filter(|at| !at.balance.covers(ceiling, &at.budget))
            .min_by_key(|at| at.budget.on_exceed != OnExceed::Refuse)
    }

    /// Every budget past its soft line, the fullest first.
    pub fn warnings(&self, payer: &Payer, ts_ms: i64, budgets: &[Budget]) -> Vec<Warning> {
        let past = self.standings(payer, ts_ms, budgets).filter(Standing::is_past_soft_line);
        let mut warnings: Vec<Warning> = past.map(|at| Warning::of(&payer.team, at)).collect();
        warnings.sort_by_key(|warning| -warning.percent());
        warnings
    }

    /// Soft lines that were passed since they were last asked for: each is told once a window.
    fn newly_passed(&mut self, payer: &Payer, ts_ms: i64, budgets: &[Budget]) -> Vec<Warning> {
        let past: Vec<Standing> =
            self.standings(payer, ts_ms, budgets).filter(Standing::is_past_soft_line).collect();
        let mut news = Vec::new();
        for at in past {
            let id = self.account_id(payer, at.budget.of, &at.budget.calendar(), ts_ms);
            let line = at.budget.soft_line().unwrap_or(NanoUsd::ZERO);
            let account = self.team(&payer.team).account(&id);
            // A line at nothing is passed by the first call.
            if account.told < line.max(NanoUsd::new(1)) {
                news.push((id, line, Warning::of(&payer.team, at)));
            }
        }
        for (id, line, _) in &news {
            let account = self.team(&payer.team).account(id);
            account.told = account.told.max((*line).max(NanoUsd::new(1)));
        }
        news.into_iter().map(|(_, _, warning)| warning).collect()
    }

    /// The accounts that the windows followed for a team give this call.
    pub fn accounts_of(&mut self, payer: &Payer, ts_ms: i64) -> Vec<AccountId> {
        self.team(&payer.team).accounts_of(payer, ts_ms)
    }

    /// The account of one kind of subject in one window.
    pub fn account_id(&self, payer: &Payer, of: Of, calendar: &Calendar, ts_ms: i64) -> AccountId {
        let span = calendar.span(ts_ms);
        let own = AccountId { subject: payer.subject(of), span };
        match self.teams.get(&payer.team) {
            Some(team) => team.within_bound(own),
            None => own,
        }
    }

    /// What is followed for a team.
    pub fn calendars(&self, team: &TeamName) -> &[(Of, Calendar)] {
        self.teams.get(team).map_or(&[], |team| &team.calendars)
    }

    /// Every account there is.
    pub fn accounts(&self) -> impl Iterator<Item = (&TeamName, &AccountId, &Account)> {
        self.teams
            .iter()
            .flat_map(|(name, team)| team.accounts.iter().map(move |(id, account)| (name, id, account)))
    }

    fn team(&mut self, name: &TeamName) -> &mut TeamBooks {
        if !self.teams.contains_key(name) {
            self.teams.insert(name.clone(), TeamBooks::new(self.is_mirror));
        }
        self.teams.get_mut(name).expect("it was inserted above")
    }

    #[cfg(test)]
    pub(super) fn team_books(&self, name: &TeamName) -> &TeamBooks {
        &self.teams[name]
    }
}

impl TeamBooks {
    fn new(is_mirror: bool) -> Self {
        let always: &[Window] = if is_mirror { &[] } else { &Window::ALL };
        let calendars = always.iter().map(|per| (Of::Team, Calendar::utc(*per))).collect();
        Self { calendars, accounts: HashMap::new(), n_users: 0, swept_ms: i64::MIN }
    }

    /// Each account once, though several budgets may name it.
    fn accounts_of(&self, payer: &Payer, ts_ms: i64) -> Vec<AccountId> {
        let mut ids: Vec<AccountId> = Vec::with_capacity(self.calendars.len());
        for (of, calendar) in &self.calendars {
            let own = AccountId { subject: payer.subject(*of), span: calendar.span(ts_ms) };
            let id = self.within_bound(own);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    fn within_bound(&self, id: AccountId) -> AccountId {
        let is_one_too_many =
            id.subject.of() == Of::EachUser && self.n_users >= MAX_USERS && !self.accounts.contains_key(&id);
        if is_one_too_many {
            return AccountId { subject: Subject::User(Arc::from(OTHERS)), ..id };
        }
        id
    }

    fn account(&mut self, id: &AccountId) -> &mut Account {
        if !self.accounts.contains_key(id) {
            self.n_users += usize::from(id.subject.of() == Of::EachUser);
            self.accounts.insert(id.clone(), Account::default());
        }
        self.accounts.get_mut(id).expect("it was inserted above")
    }

    fn drop_if_empty(&mut self, id: &AccountId) {
        let is_empty = |account: &Account| {
            (account.spent, account.held, account.told) == (NanoUsd::ZERO, NanoUsd::ZERO, NanoUsd::ZERO)
        };
        if self.accounts.get(id).is_some_and(is_empty) {
            self.accounts.remove(id);
            self.n_users -= usize::from(id.subject.of() == Of::EachUser);
        }
    }

    /// Forgets windows that ended long before `ts_ms`; looks once an hour.
    fn sweep(&mut self, ts_ms: i64) {
        if ts_ms < self.swept_ms.saturating_add(SWEEP_EVERY_MS) {
            return;
        }
        self.swept_ms = ts_ms;
        self.accounts.retain(|id, account| {
            account.held != NanoUsd::ZERO || id.span.end_ms.saturating_add(KEPT_FOR_MS) > ts_ms
        });
        self.n_users = self.accounts.keys().filter(|id| id.subject.of() == Of::EachUser).count();
    }
}
