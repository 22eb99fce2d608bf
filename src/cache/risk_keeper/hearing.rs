//! Hearing: the lines of other replicas, and taking over those of the gone.
//!
//! Invariants: a line that cannot be read is told of once and left where it is; a line is adopted here only
//! after the store said that it is this replica's.

use std::collections::BTreeMap;

use super::saving::Sent;
use super::{
    AccountState, Adoption, GONE_AFTER_MS, Line, ModelState, Others, RiskKeeper, RiskStoreError, Scope, Seen,
};

type Told = Vec<(String, Option<ModelState>)>;

impl RiskKeeper {
    /// Looks at all lines: takes over those of the gone, and remembers what the others counted.
    pub(super) async fn look(
        &self,
        others: &mut Others,
        now_ms: i64,
        all_are_gone: bool,
    ) -> Result<(), RiskStoreError> {
        let known = self.saving.lock().await.lines.clone();
        let lines = self.store.lines().await?;
        let (own, foreign): (Vec<Line>, Vec<Line>) =
            lines.into_iter().partition(|line| self.is_own(&line.replica));
        let is_there = |scope: &Scope| {
            own.iter().any(|line| line.scope == scope.as_str() && line.replica == self.replica)
        };
        for scope in known.iter().filter(|scope| !is_there(scope)) {
            self.give_up(&mut *self.saving.lock().await, scope);
            others.heard_at_ms = None;
        }
        others.notice(&foreign, now_ms);
        let (gone, alive): (Vec<Line>, Vec<Line>) =
            foreign.into_iter().partition(|line| all_are_gone || others.is_gone(line, now_ms));
        let mut counted: BTreeMap<Scope, Vec<AccountState>> = BTreeMap::new();
        for line in alive {
            let states = counted.entry(Scope::new(line.scope.as_str())).or_default();
            states.extend(self.read(others, &line, AccountState::from_json(&line.account)));
        }
        for line in gone {
            // Of a line that another one takes over, nothing is left to be looked at.
            counted.entry(Scope::new(line.scope.as_str())).or_default();
            self.adopt(others, line, now_ms).await?;
        }
        self.warden.with(|risk| counted.iter().for_each(|(scope, states)| risk.look_at(scope, states)));
        Ok(())
    }

    /// Hears the models that changed since they were heard.
    pub(super) async fn hear(&self, others: &mut Others) -> Result<(), RiskStoreError> {
        let mut told: BTreeMap<Scope, Told> = BTreeMap::new();
        let heard: Vec<_> = others.seen.keys().cloned().collect();
        for (scope, _) in &heard {
            told.entry(Scope::new(scope.as_str())).or_default();
        }
        let lines = self.store.lines().await?;
        for line in lines.into_iter().filter(|line| !self.is_own(&line.replica)) {
            let Some(saved_at_ms) = line.model_saved_at_ms else { continue };
            let key = (line.scope.clone(), line.replica.clone());
            let is_new = others.seen.get(&key).is_none_or(|seen| seen.model_saved_at_ms != Some(saved_at_ms));
            let model = if is_new { self.model(others, &line).await? } else { None };
            others.seen.entry(key).or_default().model_saved_at_ms = Some(saved_at_ms);
            told.entry(Scope::new(line.scope)).or_default().push((line.replica, model));
        }
        for (scope, models) in told {
            self.warden.with(|risk| risk.hear(&scope, models));
        }
        Ok(())
    }

    async fn model(&self, others: &mut Others, line: &Line) -> Result<Option<ModelState>, RiskStoreError> {
        let text = self.store.model(&line.scope, &line.replica).await?;
        Ok(text.and_then(|text| self.read(others, line, ModelState::from_json(&text))))
    }

    async fn adopt(&self, others: &mut Others, gone: Line, now_ms: i64) -> Result<(), RiskStoreError> {
        let Some(theirs) = self.read(others, &gone, AccountState::from_json(&gone.account)) else {
            return Ok(());
        };
        let their_model = self.model(others, &gone).await?;
        let scope = Scope::new(gone.scope.as_str());
        let mut saving = self.saving.lock().await;
        self.add_lines(&mut saving, std::slice::from_ref(&scope), now_ms).await?;
        let mut account = self.warden.with(|risk| risk.send_account(&scope));
        let sent = Sent::new(&self.warden, scope.clone());
        account.merge(&theirs);
        let model = match &their_model {
            Some(theirs) => Some(self.model_with(&scope, theirs).to_json()?),
            None => None,
        };
        let key = (gone.scope.clone(), gone.replica.clone());
        let replica = self.replica.clone();
        let adoption = Adoption { gone, replica, account: account.to_json()?, model, now_ms };
        if self.store.adopt(&adoption).await? {
            sent.saved();
            self.warden.with(|risk| risk.adopt(&scope, &key.1, &theirs, their_model.as_ref()));
            others.seen.remove(&key);
        }
        Ok(())
    }

    /// What this replica learned and what another one did.
    fn model_with(&self, scope: &Scope, theirs: &ModelState) -> ModelState {
        let own = self.warden.with(|risk| {
            let own = risk.model(scope);
            // It is saved once more, alone, should this not come to pass.
            risk.model_not_saved(scope);
            own
        });
        match own {
            Some(mut own) => {
                own.merge(theirs);
                own
            }
            None => theirs.clone(),
        }
    }

    /// A state, or nothing where it cannot be read: it stays where it is, for whoever can.
    fn read<T>(&self, others: &mut Others, line: &Line, state: Result<T, super::StateError>) -> Option<T> {
        let error = match state {
            Ok(state) => return Some(state),
            Err(error) => error,
        };
        let seen = others.seen.entry((line.scope.clone(), line.replica.clone())).or_default();
        if !std::mem::replace(&mut seen.is_unreadable, true) {
            tracing::warn!(
                cache.scope = line.scope,
                cache.replica = line.replica,
                "{error}; the cache goes on without it"
            );
        }
        None
    }
}

impl Others {
    /// Remembers since when each line is as it is now.
    fn notice(&mut self, lines: &[Line], now_ms: i64) {
        let mut before = std::mem::take(&mut self.seen);
        for line in lines {
            let key = (line.scope.clone(), line.replica.clone());
            let mut seen = before.remove(&key).unwrap_or_default();
            if seen.saved_at_ms != line.saved_at_ms || seen.since_ms == 0 {
                (seen.saved_at_ms, seen.since_ms) = (line.saved_at_ms, now_ms);
            }
            self.seen.insert(key, seen);
        }
    }

    fn is_gone(&self, line: &Line, now_ms: i64) -> bool {
        let seen = self.seen.get(&(line.scope.clone(), line.replica.clone()));
        let is_silent = |seen: &Seen| now_ms - seen.since_ms >= GONE_AFTER_MS;
        line.saved_at_ms == 0 || seen.is_some_and(is_silent)
    }
}
