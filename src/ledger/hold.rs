//! Money set aside for one call, until the call is posted or voided.
//!
//! Prices nothing: costs come in as they were metered.
//!
//! ```text
//!            sent                    post
//!   Held ───────────► Open ─────────────────► posted (row, cost)
//!    │ drop            │ │        void
//!    ▼                 │ └──────────────────► voided (row, cost 0)
//!   released, no row   │ drop
//!                      └─► progress was metered ? posted as metered : voided
//! ```
//!
//! Invariants: a hold ends exactly once, in whatever way it ends; nothing may be sent before
//! [`Hold::sent`] has returned `Ok`; money is released after its row is in the journal, never before.

use std::sync::Arc;

use super::budget::{Budget, Exceeded, OnExceed, Subject, Window};
use super::entry::{Entry, Outcome};
use super::journal::{Framed, JournalError, OpenCallRef, Progress, metered_cost};
use super::text::CallText;
use super::{Ledger, Posted, SetAside};
use crate::chat::usage::Usage;
use crate::money::NanoUsd;
use crate::team::{TeamName, UpstreamName};

/// How often a stream's progress is journalled: what a crash may lose of a metered stream.
const PROGRESS_INTERVAL_MS: i64 = 250;

/// What a hold is asked for.
#[derive(Debug, Clone)]
pub struct HoldAsk {
    /// The row as it would be posted if the process died right after sending; see [`Entry::draft`].
    pub entry_draft: Entry,
    /// The most that the call can cost.
    pub ceiling: NanoUsd,
    /// The team's budgets that must cover it.
    pub budgets: Arc<[Budget]>,
}

/// Why money was not set aside, or why a call may not be sent.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    #[error(
        "{whose}: the budget of ${limit} per {window} cannot cover this call; \
         ${spent} spent, ${held} held by calls in flight"
    )]
    BudgetExceeded {
        whose: String,
        limit: NanoUsd,
        window: Window,
        spent: NanoUsd,
        held: NanoUsd,
        resets_at_ms: i64,
        on_exceed: OnExceed,
    },
    #[error(
        "the journal holds {size_bytes} bytes that the database has not taken, its limit is {max_bytes}; \
         bring the database back or raise `max_journal_bytes`"
    )]
    JournalFull { size_bytes: u64, max_bytes: u64 },
    #[error("the team's budgets cannot be asked: {why}")]
    SharedAway { why: String },
    #[error("the call cannot be journalled, so it is not sent: {0}")]
    JournalFailed(#[from] JournalError),
}

impl HoldError {
    pub(super) fn exceeded(team: &TeamName, exceeded: Exceeded) -> Self {
        let Exceeded { budget, subject, balance } = exceeded;
        let whose = match subject {
            Subject::Team => format!("team `{team}`"),
            Subject::Key(_) | Subject::User(_) => format!("team `{team}`, {subject}"),
        };
        Self::BudgetExceeded {
            whose,
            limit: budget.usd,
            window: budget.per,
            spent: balance.spent,
            held: balance.held,
            resets_at_ms: balance.resets_at_ms,
            on_exceed: budget.on_exceed,
        }
    }
}

/// Money set aside for one call. Dropping it ends it too: see the module.
#[derive(Debug)]
#[must_use = "a hold that is dropped is released"]
pub struct Hold {
    ledger: Ledger,
    draft: Entry,
    ceiling: NanoUsd,
    budgets: Arc<[Budget]>,
    /// Taken exactly once, by whatever ends the hold.
    set_aside: Option<SetAside>,
    is_sent: bool,
    metered: Option<Metered>,
    /// What goes into the journal beside the row, where the team has it kept.
    text: Option<CallText>,
}

#[derive(Debug)]
struct Metered {
    progress: Progress,
    /// `None` where the journal has nothing of the attempt that is running.
    journalled_at_ms: Option<i64>,
}

impl Hold {
    pub(super) fn new(ledger: Ledger, ask: HoldAsk, set_aside: SetAside) -> Self {
        let HoldAsk { entry_draft: draft, ceiling, budgets } = ask;
        let set_aside = Some(set_aside);
        Self { ledger, draft, ceiling, budgets, set_aside, is_sent: false, metered: None, text: None }
    }

    /// The row as it stands now.
    pub fn draft(&self) -> &Entry {
        &self.draft
    }

    pub fn ceiling(&self) -> NanoUsd {
        self.ceiling
    }

    /// Has the call's text kept, however the call ends.
    pub fn keep_text(&mut self, text: CallText) {
        self.text = Some(text);
    }

    /// What was answered; nothing where no text is kept.
    pub fn answered(&mut self, answer: String, is_cut: bool) {
        if let Some(text) = &mut self.text {
            (text.answer, text.answer_is_cut) = (answer, is_cut);
        }
    }

    /// Journals that an attempt is about to be sent; on an error it must not be.
    pub fn sent(&mut self, upstream: &UpstreamName, model: &str, attempts: u32) -> Result<(), HoldError> {
        self.draft.upstream = Some(upstream.clone());
        self.draft.model = Some(model.to_owned());
        self.draft.attempts = attempts;
        let call = OpenCallRef { draft: &self.draft, ceiling: self.ceiling };
        self.ledger.shared.journal.append(Framed::open(call)?)?;
        self.is_sent = true;
        // A further attempt may cost up to the ceiling again, so until it is metered a crash charges that.
        if let Some(metered) = &mut self.metered {
            metered.journalled_at_ms = None;
        }
        Ok(())
    }

    /// Remembers what the call used and cost so far, all its attempts together; journalled at most every
    /// 250 ms. A cost never goes down.
    pub fn progress(&mut self, usage: Usage, cost: NanoUsd) {
        let now_ms = self.ledger.shared.clock.now_ms();
        let (earlier, journalled_at_ms) = match &self.metered {
            Some(metered) => (metered.progress.cost, metered.journalled_at_ms),
            None => (cost, None),
        };
        let progress = Progress { id: self.draft.id, usage, cost: cost.max(earlier) };
        let is_due =
            journalled_at_ms.is_none_or(|at_ms| !(at_ms..at_ms + PROGRESS_INTERVAL_MS).contains(&now_ms));
        let journalled_at_ms =
            if is_due && self.journal_progress(&progress) { Some(now_ms) } else { journalled_at_ms };
        self.metered = Some(Metered { progress, journalled_at_ms });
    }

    /// Posts the call at the cost of `entry`. The hold's id, team and time stand, whatever `entry` says.
    ///
    /// An unpriced call (`cost` of `None`) releases the whole hold and is counted, not charged.
    pub fn post(mut self, entry: Entry) -> Posted {
        self.end(entry)
    }

    /// Releases the money; the row is kept, at no cost, with the outcome of `entry`.
    pub fn void(mut self, entry: Entry) -> Posted {
        self.end(Entry { cost: Some(NanoUsd::ZERO), ..entry })
    }

    fn end(&mut self, entry: Entry) -> Posted {
        if entry.charge() > self.ceiling {
            // The budget may be overshot by the difference: whoever computed the ceiling must hear of it.
            metrics::counter!("stiver_ledger_over_ceiling_total").increment(1);
            tracing::warn!(id = %self.draft.id, cost = %entry.charge(), ceiling = %self.ceiling, "a call cost more than its ceiling");
        }
        let Self { draft, set_aside, .. } = self;
        let row = Entry { id: draft.id, ts_ms: draft.ts_ms, team: draft.team.clone(), ..entry };
        let set_aside = set_aside.take().expect("only one of post, void and drop ends a hold");
        self.ledger.shared.post(row, self.text.take(), Some((set_aside, &self.budgets)))
    }

    /// Returns whether it was written. Progress only sharpens what a crash would post, so a failure is told
    /// but stops nothing.
    fn journal_progress(&self, progress: &Progress) -> bool {
        if !self.is_sent {
            return false;
        }
        let written = Framed::progress(progress).and_then(|record| self.ledger.shared.journal.append(record));
        if let Err(error) = &written {
            tracing::warn!(%error, "progress was not journalled; a crash now would post an older one");
        }
        written.is_ok()
    }

    /// The row of a call whose client went away: as metered, or free when nothing came.
    fn abandoned(&self) -> Entry {
        let total_ms = self.ledger.shared.clock.now_ms().saturating_sub(self.draft.ts_ms).max(0);
        let mut row = Entry {
            estimated: true,
            outcome: Outcome::ClientGone,
            total_ms: total_ms.unsigned_abs(),
            cost: Some(NanoUsd::ZERO),
            ..self.draft.clone()
        };
        if let Some(Metered { progress, .. }) = &self.metered {
            row.usage = progress.usage;
            row.cost = metered_cost(&self.draft, self.ceiling, progress.cost);
        }
        row
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.set_aside.is_none() {
            return;
        }
        if self.is_sent {
            let row = self.abandoned();
            self.end(row);
        } else if let Some(set_aside) = self.set_aside.take() {
            self.ledger.shared.release(self.draft.id, set_aside);
        }
    }
}
