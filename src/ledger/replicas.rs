//! The budgets of many replicas: accounts in a Redis that all of them share.
//!
//! Every step is one script, so that it happens in all accounts of a call or in none. The rows stay where
//! they are: on this machine's journal, then in the database, from which an account that is missing here is
//! read once.
//!
//! ```text
//!            hold.lua                        settle.lua
//!   (none) ───────────► record = the holder ────────────► record = ended (kept an hour)
//!                         │ the holder's lease runs out
//!                         └─► its money counts as free; the row, when it comes, still counts as spent
//! ```
//!
//! What may be overspent, and by how much at most:
//! - with Redis there and replicas alive: nothing;
//! - a replica that dies or is cut off for longer than its lease: the ceilings of its open calls;
//! - Redis away under `fail_open_usd`: that much per replica, team and window;
//! - Redis losing its memory: the open calls until each replica has held them again (a third of the lease at
//!   most), and rows not yet in the database (its flush interval, unless it is away, too).
//!
//! Invariants: a call is settled once, however often it is said; a holder whose lease ran out never holds
//! again under that name; a settlement waits here until Redis has taken it; where too many wait, no further
//! call is let in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod allowance;
mod names;
mod open_calls;
mod scripts;
mod waiting;
mod work;

pub use self::allowance::WhenAway;

use self::allowance::Allowance;
use self::names::{call_key, warned_key};
use self::open_calls::{OpenCall, OpenCalls};
use self::scripts::{Granted, Past, Scripts};
use self::waiting::Waiting;
use self::work::{Settlement, Settling};
use super::budget::{AccountId, Books, Budget, Exceeded, Payer, Reserved, Warning};
use super::store::{Store, StoreError};
use crate::clock::Clock;
use crate::money::NanoUsd;
use crate::shared::{SharedError, SharedStore};
use crate::team::{CallId, TeamName};

/// A missing account, then a lapsed lease, then once more.
const N_TRIES: usize = 4;
/// How long reading a new account waits for rows of this replica.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Shared accounts, as this replica sees them.
#[derive(Debug)]
pub(super) struct Replicas {
    shared: Arc<SharedStore>,
    scripts: Scripts,
    clock: Clock,
    store: Store,
    /// Rows of this replica on their way to the database.
    pending: watch::Receiver<u64>,
    open_calls: OpenCalls,
    allowance: Allowance,
    settlements: mpsc::UnboundedSender<Settlement>,
    waiting: Arc<Waiting>,
    /// Teams whose open calls have to be held again.
    lost: mpsc::UnboundedSender<TeamName>,
}

/// What shared accounts are kept with.
pub(super) struct Parts {
    pub(super) shared: Arc<SharedStore>,
    pub(super) when_away: WhenAway,
    /// Ended calls that may wait for the shared store before no further one is let in.
    pub(super) max_unsettled: usize,
    pub(super) clock: Clock,
    pub(super) store: Store,
    /// Rows of this replica on their way to the database.
    pub(super) pending: watch::Receiver<u64>,
}

/// What runs beside the calls, to be started.
#[derive(Debug)]
pub(super) struct Work {
    settling: Settling,
    lost: mpsc::UnboundedReceiver<TeamName>,
}

/// A hold that was asked for. Whoever asked may leave before the answer is there; then it is ended.
struct Claim<'a> {
    replicas: &'a Replicas,
    ask: Asking<'a>,
    accounts: &'a [AccountId],
    is_open: bool,
}

impl Claim<'_> {
    fn close(mut self) {
        self.is_open = false;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let Asking { id, payer, ceiling, .. } = self.ask;
            self.replicas.enqueue(id, payer, self.accounts, (ceiling, NanoUsd::ZERO));
        }
    }
}

/// What a call has set aside in the shared store.
#[derive(Debug)]
pub(super) struct Stake {
    accounts: Vec<AccountId>,
    ceiling: NanoUsd,
    /// What it was let in by while the store was away.
    allowance: Option<Reserved>,
}

/// One call that asks for money.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) id: CallId,
    pub(super) payer: &'a Payer,
    pub(super) ts_ms: i64,
    pub(super) ceiling: NanoUsd,
    pub(super) budgets: &'a [Budget],
}

/// Why there is no money.
#[derive(Debug)]
pub(super) enum NoStake {
    Exceeded(Exceeded),
    Away { why: String },
}

/// Why the shared store could not say.
#[derive(Debug, thiserror::Error)]
enum Unsure {
    #[error(transparent)]
    Shared(#[from] SharedError),
    #[error("the shared accounts are new and the {0}")]
    Store(#[from] StoreError),
    #[error("shared redis: the accounts changed under every try")]
    Restless,
}

impl Unsure {
    /// Whether a hold may stand in the store although nobody said so: a request was sent, and its answer lost.
    fn may_have_held(&self) -> bool {
        matches!(self, Self::Shared(SharedError::Redis(_) | SharedError::Timeout { .. }))
    }
}

impl Replicas {
    /// The store is asked only when there is something to ask.
    pub(super) fn new(parts: Parts) -> (Self, Work) {
        let Parts { shared, when_away, max_unsettled, clock, store, pending } = parts;
        let (settlements, queue) = mpsc::unbounded_channel();
        let (lost, found_lost) = mpsc::unbounded_channel();
        let waiting = Arc::new(Waiting::new(max_unsettled));
        let settling = Settling::new(Arc::clone(&shared), queue, Arc::clone(&waiting), pending.clone());
        let replicas = Self {
            shared,
            scripts: Scripts::new(),
            clock,
            store,
            pending,
            open_calls: OpenCalls::default(),
            allowance: Allowance::new(when_away),
            settlements,
            waiting,
            lost,
        };
        (replicas, Work { settling, lost: found_lost })
    }

    /// Starts what runs beside the calls: settling, and the signs of life.
    pub(super) fn start(self: &Arc<Self>, work: Work, tracker: &TaskTracker, closing: CancellationToken) {
        let Work { settling, lost } = work;
        tracker.spawn(settling.run(closing.clone()));
        tracker.spawn(Arc::clone(self).live(lost, closing));
    }

    /// Sets the ceiling aside in all accounts of the call, or in none. `books` repeats what was heard.
    pub(super) async fn hold(
        &self,
        books: &Mutex<Books>,
        ask: Asking<'_>,
    ) -> Result<(Reserved, Stake), NoStake> {
        let accounts = {
            let mut books = books.lock();
            books.follow(&ask.payer.team, ask.budgets);
            books.accounts_of(ask.payer, ask.ts_ms)
        };
        if accounts.is_empty() {
            let reserved = books.lock().reserve(ask.payer, ask.ts_ms, ask.ceiling);
            return Ok((reserved, Stake { accounts, ceiling: ask.ceiling, allowance: None }));
        }
        if let Err(why) = self.waiting.check_room() {
            counter!("stiver_holds_without_shared_store_total", "outcome" => "queue_full").increment(1);
            return Err(NoStake::Away { why });
        }
        let claim = Claim { replicas: self, ask, accounts: &accounts, is_open: true };
        let said = self.hold_shared(books, ask, &accounts).await;
        claim.close();
        match said {
            Ok(Ok(reserved)) => Ok((reserved, Stake { accounts, ceiling: ask.ceiling, allowance: None })),
            Ok(Err(exceeded)) => Err(NoStake::Exceeded(exceeded)),
            Err(unsure) => self.hold_alone(books, ask, accounts, &unsure),
        }
    }

    async fn hold_shared(
        &self,
        books: &Mutex<Books>,
        ask: Asking<'_>,
        accounts: &[AccountId],
    ) -> Result<Result<Reserved, Exceeded>, Unsure> {
        let limits = limits(&books.lock(), ask, accounts);
        for _ in 0..N_TRIES {
            let team = &ask.payer.team;
            let holder = self.holder(team);
            let call = scripts::Holding { ask, accounts, limits: &limits, holder: &holder, is_forced: false };
            let said = self.scripts.hold(&self.shared, &call, self.clock.now_ms()).await?;
            match said {
                Granted::Yes { is_new, balances } => {
                    let mut mirror = books.lock();
                    let reserved = mirror.reserve(ask.payer, ask.ts_ms, ask.ceiling);
                    note(&mut mirror, ask.payer, accounts, &balances);
                    drop(mirror);
                    let n_before = self.open_calls.add(ask.id, OpenCall::new(ask, accounts));
                    if is_new && n_before > 0 {
                        // The store has lost its memory, and with it the other open calls.
                        let _ = self.lost.send(team.clone());
                    }
                    return Ok(Ok(reserved));
                }
                Granted::No { balances } => {
                    let mut mirror = books.lock();
                    note(&mut mirror, ask.payer, accounts, &balances);
                    let exceeded = mirror.exceeded(ask.payer, ask.ts_ms, ask.ceiling, ask.budgets);
                    return exceeded.map(Err).ok_or(Unsure::Restless);
                }
                Granted::Unknown { places } => self.seed(ask.payer, accounts, &places).await?,
                Granted::Lapsed => self.lapsed(team, &holder),
                Granted::Ended => return Err(Unsure::Restless),
            }
        }
        Err(Unsure::Restless)
    }

    /// The store cannot be asked: the policy decides.
    fn hold_alone(
        &self,
        books: &Mutex<Books>,
        ask: Asking<'_>,
        accounts: Vec<AccountId>,
        unsure: &Unsure,
    ) -> Result<(Reserved, Stake), NoStake> {
        let let_in = self.allowance.hold(books, ask);
        let outcome = if let_in.is_ok() { "let_in" } else { "refused" };
        counter!("stiver_holds_without_shared_store_total", "outcome" => outcome).increment(1);
        match let_in {
            Ok(allowance) => {
                let reserved = books.lock().reserve(ask.payer, ask.ts_ms, ask.ceiling);
                Ok((reserved, Stake { accounts, ceiling: ask.ceiling, allowance: Some(allowance) }))
            }
            Err(why) => {
                if unsure.may_have_held() {
                    self.enqueue(ask.id, ask.payer, &accounts, (ask.ceiling, NanoUsd::ZERO));
                }
                Err(NoStake::Away { why: format!("{unsure}; {why}") })
            }
        }
    }

    /// Ends a call in the shared accounts, as soon as they can be reached.
    pub(super) fn settle(&self, id: CallId, payer: &Payer, stake: Stake, cost: NanoUsd) {
        let Stake { accounts, ceiling, allowance } = stake;
        if let Some(reserved) = allowance {
            self.allowance.settle(reserved, cost);
        }
        self.open_calls.remove(payer, id);
        self.enqueue(id, payer, &accounts, (ceiling, cost));
    }

    /// Books a cost that no hold preceded.
    pub(super) fn spend(&self, id: CallId, payer: &Payer, accounts: &[AccountId], cost: NanoUsd) {
        if cost > NanoUsd::ZERO {
            self.enqueue(id, payer, accounts, (NanoUsd::ZERO, cost));
        }
    }

    /// Books a call that an earlier run of this replica left in its journal; the database has its row.
    pub(super) fn spend_recovered(&self, id: CallId, payer: &Payer, accounts: &[AccountId], cost: NanoUsd) {
        if !accounts.is_empty() {
            // What it held was held by a name of that run, whose lease is over or soon will be.
            let settlement = self.settlement(id, payer, accounts, (NanoUsd::ZERO, cost));
            self.send(Settlement { is_in_database: true, ..settlement });
        }
    }

    fn enqueue(&self, id: CallId, payer: &Payer, accounts: &[AccountId], spent: (NanoUsd, NanoUsd)) {
        if !accounts.is_empty() {
            self.send(self.settlement(id, payer, accounts, spent));
        }
    }

    fn settlement(
        &self,
        id: CallId,
        payer: &Payer,
        accounts: &[AccountId],
        (ceiling, cost): (NanoUsd, NanoUsd),
    ) -> Settlement {
        let key = call_key(&payer.team, id);
        let accounts = names::accounts(&payer.team, accounts, self.clock.now_ms());
        Settlement { id, call: key, accounts, ceiling, cost, is_in_database: false }
    }

    fn send(&self, settlement: Settlement) {
        self.waiting.add();
        // The receiver lives until the ledger is closed; what is ended after it is told by `verify`.
        if self.settlements.send(settlement).is_err() {
            self.waiting.remove(1);
            counter!("stiver_shared_settlements_lost_total").increment(1);
        }
    }

    /// Settlements that Redis has not taken yet.
    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.n()
    }

    pub(super) fn report_waiting(&self) {
        self.waiting.report();
    }

    /// Whether no other replica has told this warning; each may where they cannot be asked.
    pub(super) async fn is_first_to_warn(&self, warning: &Warning) -> bool {
        let ttl_ms = warning.balance.resets_at_ms.saturating_sub(self.clock.now_ms()).max(1);
        let first = self.scripts.first(&self.shared, warned_key(warning), ttl_ms).await;
        first.unwrap_or(true)
    }

    pub(super) async fn readiness(&self) -> Result<(), String> {
        self.waiting.check_room()?;
        self.shared.readiness().await
    }

    async fn seed(&self, payer: &Payer, accounts: &[AccountId], places: &[usize]) -> Result<(), Unsure> {
        // What this replica has posted shall be in what is read. Where the database is away, reading fails anyway.
        let mut pending = self.pending.clone();
        let flushed = tokio::time::timeout(FLUSH_TIMEOUT, pending.wait_for(|n_rows| *n_rows == 0)).await;
        drop(flushed);
        for id in places.iter().filter_map(|place| accounts.get(*place)) {
            // In this order: a row that comes in between counts twice rather than not at all.
            let late = self.scripts.late(&self.shared, &payer.team, id).await?;
            let counted = self.store.known_calls(&late).await?;
            let spent = self.store.spent(&payer.team, id).await?;
            let past = Past { spent, counted };
            self.scripts.seed(&self.shared, (&payer.team, id), past, self.clock.now_ms()).await?;
        }
        Ok(())
    }
}

/// The shared accounts for whoever compares them with the rows.
#[derive(Debug)]
pub(super) struct SharedAccounts {
    shared: Arc<SharedStore>,
    scripts: Scripts,
}

impl SharedAccounts {
    pub(super) fn new(shared: Arc<SharedStore>) -> Self {
        Self { shared, scripts: Scripts::new() }
    }

    /// What is spent (`None`: the account has no balance there) and what is held.
    pub(super) async fn now(
        &self,
        team: &TeamName,
        id: &AccountId,
    ) -> Result<(Option<NanoUsd>, NanoUsd), SharedError> {
        self.scripts.account_now(&self.shared, team, id).await
    }

    /// Puts what the rows add up to in the place of an account's balance.
    pub(super) async fn rebuild(
        &self,
        team: &TeamName,
        id: &AccountId,
        spent: NanoUsd,
        now_ms: i64,
    ) -> Result<(), SharedError> {
        self.scripts.rebuild(&self.shared, (team, id), spent, now_ms).await
    }
}

impl Replicas {
    pub(super) fn accounts(&self) -> SharedAccounts {
        SharedAccounts::new(Arc::clone(&self.shared))
    }
}

/// What each account may hold at most: the least of the hard budgets on it.
fn limits(books: &Books, ask: Asking<'_>, accounts: &[AccountId]) -> Vec<Option<NanoUsd>> {
    let mut limits: HashMap<AccountId, NanoUsd> = HashMap::new();
    for budget in ask.budgets.iter().filter(|budget| budget.is_hard()) {
        let id = books.account_id(ask.payer, budget.of, &budget.calendar(), ask.ts_ms);
        let limit = limits.entry(id).or_insert(budget.usd);
        *limit = budget.usd.min(*limit);
    }
    accounts.iter().map(|id| limits.get(id).copied()).collect()
}

fn note(mirror: &mut Books, payer: &Payer, accounts: &[AccountId], balances: &[(NanoUsd, NanoUsd)]) {
    for (id, (spent, held)) in accounts.iter().zip(balances) {
        mirror.note(&payer.team, id, *spent, *held);
    }
}
