//! What of the risk control is saved, and what replicas tell each other.
//!
//! Every replica keeps accounts of its own requests; why their sum keeps the promise stands in `account`.
//! Only models are made from what others say. Reads and writes nothing itself.
//!
//! Invariants: a state is taken over once; what others learned replaces what was heard of them before.

use super::account::Account;
use super::control::Control;
use super::model::Model;
use super::state::{AccountState, ModelState};
use super::{Risk, Scope};

/// Where the pool is kept; no scope is called so, because a scope has a team and a route.
const POOL: &str = "*";

impl Scope {
    /// What all scopes have in common is kept as a scope of its own.
    pub fn pool() -> Self {
        Self::new(POOL)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_pool(&self) -> bool {
        self.0 == POOL
    }
}

impl Risk {
    /// Scopes that counted something since they were last saved.
    pub fn changed_accounts(&self) -> Vec<Scope> {
        let changed = self.scopes.iter().filter(|(_, control)| control.custody.is_changed());
        changed.map(|(scope, _)| scope.clone()).collect()
    }

    /// An account that counted nothing.
    pub fn empty_account(&self, scope: &Scope) -> AccountState {
        let account = (!scope.is_pool()).then(|| Account::open(self.promise));
        AccountState::of(account, None)
    }

    /// What is to be saved of a scope now; [`Risk::saved`] or [`Risk::not_saved`] must follow.
    pub fn send_account(&mut self, scope: &Scope) -> AccountState {
        match self.scopes.get_mut(scope) {
            Some(control) => control.send(),
            None => self.empty_account(scope),
        }
    }

    /// What [`Risk::send_account`] handed out is saved.
    pub fn saved(&mut self, scope: &Scope) {
        if let Some(control) = self.scopes.get_mut(scope) {
            control.custody.settle();
        }
    }

    /// Nobody knows whether it is.
    pub fn not_saved(&mut self, scope: &Scope) {
        if let Some(control) = self.scopes.get_mut(scope) {
            control.custody.unsettle();
        }
    }

    /// Another replica took over what this one had saved. Returns what it has not, to be handed over as well;
    /// the scope begins anew.
    pub fn give_up(&mut self, scope: &Scope) -> Option<AccountState> {
        if scope.is_pool() {
            self.pool.give_up(Model::first());
            return None;
        }
        let heir = self.pool.all().heir();
        let control = self.scopes.get_mut(scope)?;
        control.models.give_up(heir);
        Some(AccountState::of(Some(control.custody.give_up()), None))
    }

    /// Scopes that learned something since their model was last handed out, the pool among them.
    pub fn changed_models(&self) -> Vec<Scope> {
        let pool = self.pool.is_changed().then(Scope::pool);
        let changed = self.scopes.iter().filter(|(_, control)| control.models.is_changed());
        pool.into_iter().chain(changed.map(|(scope, _)| scope.clone())).collect()
    }

    /// What this replica learned itself.
    pub fn model(&mut self, scope: &Scope) -> Option<ModelState> {
        let models = if scope.is_pool() { &mut self.pool } else { &mut self.scopes.get_mut(scope)?.models };
        models.set_changed(false);
        Some(ModelState::of(models.own().clone()))
    }

    /// The model that was handed out has to be handed out again.
    pub fn model_not_saved(&mut self, scope: &Scope) {
        if scope.is_pool() {
            self.pool.set_changed(true);
        } else if let Some(control) = self.scopes.get_mut(scope) {
            control.models.set_changed(true);
        }
    }

    /// What `replica`, which is gone or was this one before a restart, counted and learned becomes a part of
    /// what is counted and learned here. Of another promise only what was learned is of use.
    pub fn adopt(
        &mut self,
        scope: &Scope,
        replica: &str,
        account: &AccountState,
        model: Option<&ModelState>,
    ) {
        if scope.is_pool() {
            if let Some(state) = model {
                self.pool.take_over(replica, &state.model);
            }
            return;
        }
        let control = self.control(scope);
        control.take_over(account);
        if let Some(state) = model {
            control.models.take_over(replica, &state.model);
        }
    }

    /// What all other replicas learned by now; who comes without a model said nothing new, and who does not
    /// come is forgotten.
    pub fn hear(&mut self, scope: &Scope, told: Vec<(String, Option<ModelState>)>) {
        let told = told.into_iter().map(|(name, state)| (name, state.map(|state| state.model))).collect();
        if scope.is_pool() {
            self.pool.hear(told);
        } else {
            self.control(scope).models.hear(told);
        }
    }

    /// What all other replicas counted, for [`Risk::standing`] alone.
    pub fn look_at(&mut self, scope: &Scope, others: &[AccountState]) {
        if !scope.is_pool() {
            self.control(scope).look_at(others);
        }
    }

    pub(super) fn control(&mut self, scope: &Scope) -> &mut Control {
        if !self.scopes.contains_key(scope) {
            let control = Control::open(self.pool.all(), self.promise);
            self.scopes.insert(scope.clone(), control);
        }
        self.scopes.get_mut(scope).expect("it was just put there")
    }
}
