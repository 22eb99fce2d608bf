//! The money side of the book: what budgets stand at, what is held, what is settled.
//!
//! Writes no rows. Where replicas share their budgets, they are asked; the books here repeat what they said.
//!
//! Invariants: money is set aside in all accounts of a call or in none, and settled once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::budget::{Balance, Budget, Payer, Reserved, Warning, Window};
use super::entry::Entry;
use super::recover::{self, Left};
use super::replicas::{Asking, NoStake, Stake};
use super::{HoldAsk, HoldError, Ledger, LedgerError, Shared};
use crate::money::NanoUsd;
use crate::team::{CallId, TeamName};

/// How long a reload waits for rows on their way to the database.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Money that is held for one call, wherever budgets are kept.
#[derive(Debug)]
pub(super) struct SetAside {
    reserved: Reserved,
    stake: Option<Stake>,
}

pub(super) fn payer_of(row: &Entry) -> Payer {
    if row.is_audit() {
        return Payer::house();
    }
    Payer { team: row.team.clone(), key: row.key.clone(), user: row.user.as_deref().map(Arc::from) }
}

impl Ledger {
    /// What the tightest of `budgets` still has; `None` where there is no budget.
    pub fn remaining(&self, payer: &Payer, budgets: &[Budget]) -> Option<NanoUsd> {
        self.shared.books.lock().remaining(payer, self.shared.clock.now_ms(), budgets)
    }

    /// The budgets that are past their soft line, the fullest first.
    pub fn warnings(&self, payer: &Payer, budgets: &[Budget]) -> Vec<Warning> {
        if budgets.iter().all(|budget| budget.soft_line().is_none()) {
            return Vec::new();
        }
        self.shared.books.lock().warnings(payer, self.shared.clock.now_ms(), budgets)
    }

    /// How the budget's window stands for a caller, all replicas together.
    pub async fn balance_of_all(&self, payer: &Payer, budget: &Budget) -> Result<Balance, LedgerError> {
        let shared = &self.shared;
        let (id, here) = {
            let books = shared.books.lock();
            let id = books.account_id(payer, budget.of, &budget.calendar(), shared.clock.now_ms());
            let here = books.balance_of(&payer.team, &id);
            (id, here)
        };
        let Some(replicas) = &shared.replicas else { return Ok(here) };
        let (spent, held) = replicas.accounts().now(&payer.team, &id).await?;
        let spent = match spent {
            Some(spent) => spent,
            None => shared.store.spent(&payer.team, &id).await?,
        };
        Ok(Balance { spent, held, resets_at_ms: id.span.end_ms })
    }

    /// Soft lines as they are passed, each once a window; the first to ask gets them.
    pub fn take_warnings(&self) -> Option<mpsc::Receiver<Warning>> {
        self.shared.warned.lock().take()
    }

    /// Whether no other replica tells this warning.
    pub async fn is_first_to_warn(&self, warning: &Warning) -> bool {
        match &self.shared.replicas {
            Some(replicas) => replicas.is_first_to_warn(warning).await,
            None => true,
        }
    }

    /// Learns which windows budgets name, and reads the past of those that are new.
    ///
    /// While it reads, calls may already be booked in them; such a call may count twice until the window ends
    /// or the next start, and never less than once.
    pub async fn follow(&self, teams: &[(TeamName, Vec<Budget>)]) -> Result<(), LedgerError> {
        let shared = &self.shared;
        let opened = {
            let mut books = shared.books.lock();
            let mut open =
                |(team, budgets): &(TeamName, Vec<Budget>)| (team.clone(), books.follow(team, budgets));
            let mut opened: Vec<_> = teams.iter().map(&mut open).collect();
            opened.retain(|(_, calendars)| !calendars.is_empty());
            opened
        };
        if let Some(replicas) = &shared.replicas {
            let left = std::mem::take(&mut *shared.left.lock());
            for Left { id, payer, ts_ms, cost } in left {
                let accounts = shared.books.lock().accounts_of(&payer, ts_ms);
                replicas.spend_recovered(id, &payer, &accounts, cost);
            }
            return Ok(());
        }
        if opened.is_empty() {
            return Ok(());
        }
        let flushed = tokio::time::timeout(FLUSH_TIMEOUT, self.flushed()).await;
        let read = match flushed {
            Ok(()) => recover::read_past(&shared.store, &shared.books, &opened, shared.clock.now_ms()).await,
            Err(_) => Err(LedgerError::PastUnread),
        };
        if read.is_err() {
            let mut books = shared.books.lock();
            opened.iter().for_each(|(team, calendars)| books.unfollow(team, calendars));
        }
        read
    }

    /// Calls that have ended and that the shared store has not been told of yet.
    pub fn n_unsettled(&self) -> usize {
        self.shared.replicas.as_ref().map_or(0, |replicas| replicas.n_waiting())
    }

    /// Whether the shared store answers; fine where there is none.
    pub async fn shared_readiness(&self) -> Option<Result<(), String>> {
        match &self.shared.replicas {
            Some(replicas) => Some(replicas.readiness().await),
            None => None,
        }
    }

    /// How a window of a team stands now.
    pub fn balance(&self, team: &TeamName, window: Window) -> Balance {
        self.shared.books.lock().balance(team, window, self.shared.clock.now_ms())
    }
}

impl Shared {
    pub(super) async fn set_aside(&self, ask: &HoldAsk) -> Result<SetAside, HoldError> {
        let HoldAsk { entry_draft: draft, ceiling, budgets } = ask;
        let payer = payer_of(draft);
        let exceeded = |exceeded| HoldError::exceeded(&draft.team, exceeded);
        let Some(replicas) = &self.replicas else {
            let reserved = self.books.lock().hold(&payer, draft.ts_ms, *ceiling, budgets);
            return Ok(SetAside { reserved: reserved.map_err(exceeded)?, stake: None });
        };
        let asking = Asking { id: draft.id, payer: &payer, ts_ms: draft.ts_ms, ceiling: *ceiling, budgets };
        match replicas.hold(&self.books, asking).await {
            Ok((reserved, stake)) => Ok(SetAside { reserved, stake: Some(stake) }),
            Err(NoStake::Exceeded(by)) => Err(exceeded(by)),
            Err(NoStake::Away { why }) => Err(HoldError::SharedAway { why }),
        }
    }

    pub(super) fn release(&self, id: CallId, set_aside: SetAside) {
        self.settle(id, set_aside, NanoUsd::ZERO, &[]);
    }

    pub(super) fn settle(&self, id: CallId, set_aside: SetAside, cost: NanoUsd, budgets: &[Budget]) {
        let SetAside { reserved, stake } = set_aside;
        if let Some((replicas, stake)) = self.replicas.as_ref().zip(stake) {
            replicas.settle(id, reserved.payer(), stake, cost);
        }
        let news = self.books.lock().settle_and_tell(reserved, cost, budgets);
        for warning in news {
            if self.warnings.try_send(warning).is_err() {
                metrics::counter!("stiver_budget_warnings_untold_total").increment(1);
            }
        }
    }

    pub(super) fn spend(&self, row: &Entry) {
        let cost = row.charge();
        if cost == NanoUsd::ZERO {
            return;
        }
        let payer = payer_of(row);
        let accounts = {
            let mut books = self.books.lock();
            books.spend(&payer, row.ts_ms, cost);
            books.accounts_of(&payer, row.ts_ms)
        };
        if let Some(replicas) = &self.replicas {
            replicas.spend(row.id, &payer, &accounts, cost);
        }
    }
}
