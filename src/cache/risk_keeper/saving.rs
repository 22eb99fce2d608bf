//! Saving: this replica's own lines.
//!
//! Invariants: one at a time, so that an older state never follows a newer one; stopped anywhere, what was
//! not saved is saved the next time.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::{Line, RiskKeeper, RiskStoreError, Scope, Warden};

/// This replica's lines.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// Known to be in the store.
    pub(super) lines: BTreeSet<Scope>,
    /// What came after another replica had taken a line over, to be handed over as well.
    left: Vec<Line>,
    n_left: u32,
    /// Which saving of accounts came to its end last.
    last_saved: u64,
}

/// Accounts on their way to the store.
pub(super) struct Sent<'a> {
    warden: &'a Warden,
    scopes: Vec<Scope>,
}

impl Drop for Sent<'_> {
    /// Unless it was told otherwise before, nobody knows whether they are saved.
    fn drop(&mut self) {
        self.warden.with(|risk| self.scopes.iter().for_each(|scope| risk.not_saved(scope)));
    }
}

impl<'a> Sent<'a> {
    pub(super) fn new(warden: &'a Warden, scope: Scope) -> Self {
        Self { warden, scopes: vec![scope] }
    }

    pub(super) fn saved(self) {
        self.saved_but(&[]);
    }

    /// All are saved but these.
    fn saved_but(mut self, lost: &[Scope]) {
        let (lost, saved) =
            std::mem::take(&mut self.scopes).into_iter().partition(|scope| lost.contains(scope));
        self.scopes = lost;
        let saved: Vec<Scope> = saved;
        self.warden.with(|risk| saved.iter().for_each(|scope| risk.saved(scope)));
    }
}

impl RiskKeeper {
    /// Saves the accounts that changed. Of many who wait at once, one saves for all.
    pub(super) async fn save(&self, now_ms: i64) -> Result<(), RiskStoreError> {
        let n_begun = self.n_begun.load(Ordering::SeqCst);
        let mut saving = self.saving.lock().await;
        if saving.last_saved > n_begun {
            // It began after this was asked for, so it has what this was asked for.
            return Ok(());
        }
        self.hand_over(&mut saving).await?;
        let changed = self.warden.with(|risk| risk.changed_accounts());
        if changed.is_empty() {
            return Ok(());
        }
        self.add_lines(&mut saving, &changed, now_ms).await?;
        let number = self.n_begun.fetch_add(1, Ordering::SeqCst) + 1;
        let states: Vec<_> = self.warden.with(|risk| {
            changed.iter().map(|scope| (scope.as_str().to_owned(), risk.send_account(scope))).collect()
        });
        let sent = Sent { warden: &self.warden, scopes: changed };
        let mut accounts = Vec::with_capacity(states.len());
        for (scope, state) in states {
            accounts.push((scope, state.to_json()?));
        }
        let lost = self.store.save_accounts(&self.replica, &accounts, now_ms).await?;
        let lost: Vec<Scope> = lost.into_iter().map(Scope::new).collect();
        sent.saved_but(&lost);
        saving.last_saved = number;
        lost.iter().for_each(|scope| self.give_up(&mut saving, scope));
        Ok(())
    }

    /// Models are saved one after another: together they would be large.
    pub(super) async fn save_models(&self, now_ms: i64) -> Result<(), RiskStoreError> {
        for scope in self.warden.with(|risk| risk.changed_models()) {
            let mut saving = self.saving.lock().await;
            self.add_lines(&mut saving, std::slice::from_ref(&scope), now_ms).await?;
            let Some(model) = self.warden.with(|risk| risk.model(&scope)) else { continue };
            let unsaved = Unsaved { warden: &self.warden, scope: Some(&scope) };
            let of = (scope.as_str(), self.replica.as_str());
            if self.store.save_model(of, &model.to_json()?, now_ms).await? {
                unsaved.done();
            } else {
                drop(unsaved);
                self.give_up(&mut saving, &scope);
            }
        }
        Ok(())
    }

    /// Lines begin empty: should nobody hear that one was added, nothing is in it that could count twice.
    pub(super) async fn add_lines(
        &self,
        saving: &mut Saving,
        scopes: &[Scope],
        now_ms: i64,
    ) -> Result<(), RiskStoreError> {
        for scope in scopes.iter().filter(|scope| !saving.lines.contains(scope)).cloned().collect::<Vec<_>>()
        {
            let account = self.warden.with(|risk| risk.empty_account(&scope)).to_json()?;
            self.store.add(&self.line(&scope, &self.replica, account, now_ms)).await?;
            saving.lines.insert(scope);
        }
        Ok(())
    }

    /// Another replica took the line over while this one was silent. It begins anew.
    pub(super) fn give_up(&self, saving: &mut Saving, scope: &Scope) {
        saving.lines.remove(scope);
        let left = self.warden.with(|risk| risk.give_up(scope)).and_then(|state| state.to_json().ok());
        tracing::warn!(
            cache.scope = scope.as_str(),
            "this replica was silent and another one took its account over; the scope begins anew here"
        );
        if let Some(account) = left {
            saving.n_left += 1;
            // A name of its own, of a replica that has ended.
            let replica = format!("{}{LEFT_MARK}{}", self.replica, saving.n_left);
            saving.left.push(self.line(scope, &replica, account, 0));
        }
    }

    async fn hand_over(&self, saving: &mut Saving) -> Result<(), RiskStoreError> {
        while let Some(line) = saving.left.last() {
            self.store.add(line).await?;
            saving.left.pop();
        }
        Ok(())
    }

    fn line(&self, scope: &Scope, replica: &str, account: String, saved_at_ms: i64) -> Line {
        Line {
            scope: scope.as_str().to_owned(),
            replica: replica.to_owned(),
            account,
            model_saved_at_ms: None,
            saved_at_ms,
        }
    }

    /// What this replica left itself it does not take back: the account it was charged to is another's.
    pub(super) fn is_own(&self, replica: &str) -> bool {
        let rest = replica.strip_prefix(self.replica.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(LEFT_MARK))
    }
}

const LEFT_MARK: char = '~';

/// A model on its way to the store.
struct Unsaved<'a> {
    warden: &'a Warden,
    scope: Option<&'a Scope>,
}

impl Unsaved<'_> {
    fn done(mut self) {
        self.scope = None;
    }
}

impl Drop for Unsaved<'_> {
    fn drop(&mut self) {
        if let Some(scope) = self.scope {
            self.warden.with(|risk| risk.model_not_saved(scope));
        }
    }
}
