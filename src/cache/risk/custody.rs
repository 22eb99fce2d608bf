//! An account, and what of it no other process can know yet.
//!
//! A replica that falls silent is taken for gone, and another one takes its account over as it was last
//! saved. Where it was alive all the while, that account is its own no more; what came since then is, and
//! is handed over too. Saves nothing itself.
//!
//! Invariants: every coin is in exactly one account, saved, taken over or handed over; an audit is
//! released only in an account that holds its charge.

use super::account::{Account, Promise};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Custody {
    own: Part,
    /// Since the last state that is known to be saved.
    since_saved: Part,
    /// Since the state that is being saved.
    since_sent: Option<Part>,
    /// Counts states sent and accounts given up, so that a decision knows in which parts it is.
    mark: u64,
    is_changed: bool,
}

/// An account of what was decided from a mark on.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    account: Account,
    from_mark: u64,
}

impl Part {
    fn open(promise: Promise, from_mark: u64) -> Self {
        Self { account: Account::open(promise), from_mark }
    }
}

impl Custody {
    pub(super) fn open(promise: Promise) -> Self {
        Self {
            own: Part::open(promise, 0),
            since_saved: Part::open(promise, 0),
            since_sent: None,
            mark: 0,
            is_changed: false,
        }
    }

    pub(super) fn account(&self) -> &Account {
        &self.own.account
    }

    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    fn change(&mut self, mark: u64, change: impl Fn(&mut Account)) {
        self.is_changed = true;
        let parts = [Some(&mut self.own), Some(&mut self.since_saved), self.since_sent.as_mut()];
        for part in parts.into_iter().flatten().filter(|part| part.from_mark <= mark) {
            change(&mut part.account);
        }
    }

    pub(super) fn earn(&mut self) {
        self.change(self.mark, Account::earn);
    }

    pub(super) fn serve(&mut self, share: f64) {
        self.change(self.mark, |account| account.serve(share));
    }

    pub(super) fn hold(&mut self, share: f64) {
        self.change(self.mark, |account| account.hold(share));
    }

    /// The audit that was decided on at `mark` found the answer to be right.
    pub(super) fn release(&mut self, share: f64, mark: u64) {
        self.change(mark, |account| account.release(share));
    }

    pub(super) fn find_wrong(&mut self, share: f64, mark: u64) {
        self.change(mark, |account| account.find_wrong(share));
    }

    /// The state to be saved now.
    pub(super) fn send(&mut self) -> Account {
        self.mark += 1;
        self.since_sent = Some(Part::open(*self.own.account.promise(), self.mark));
        self.is_changed = false;
        self.own.account.clone()
    }

    /// What was sent is saved.
    pub(super) fn settle(&mut self) {
        if let Some(part) = self.since_sent.take() {
            self.since_saved = part;
        }
    }

    /// What was sent may be saved or not.
    pub(super) fn unsettle(&mut self) {
        self.since_sent = None;
        self.is_changed = true;
    }

    /// Another has taken over what was saved: what is left is returned, to be handed over, and an account
    /// is opened anew. Its income stays behind: a part of it may have been saved unheard.
    pub(super) fn give_up(&mut self) -> Account {
        let promise = *self.own.account.promise();
        let left = self.since_saved.account.without_income();
        self.mark += 1;
        let mark = self.mark;
        *self = Self { mark, own: Part::open(promise, mark), ..Self::open(promise) };
        self.since_saved.from_mark = mark;
        left
    }

    /// Another replica's account becomes part of this one, which is to be saved together with it.
    pub(super) fn take_over(&mut self, other: &Account) {
        self.is_changed = true;
        self.own.account.merge(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMISE: Promise = Promise { max_false_hit_rate: 0.01, confidence: 0.95, audit_share: 0.02 };

    fn after(n_requests: usize) -> Custody {
        let mut custody = Custody::open(PROMISE);
        (0..n_requests).for_each(|_| custody.earn());
        custody
    }

    fn audit(custody: &mut Custody) -> u64 {
        custody.serve(1.0);
        custody.hold(1.0);
        custody.mark()
    }

    #[test]
    fn what_was_not_saved_is_left_when_another_took_the_rest() {
        let mut custody = after(1_000);
        audit(&mut custody);
        let saved = custody.send();
        custody.settle();
        audit(&mut custody);
        audit(&mut custody);

        let left = custody.give_up();

        assert_eq!((saved.bound(), left.bound(), left.available()), (1.0, 2.0, -2.0));
        assert_eq!((custody.account().bound(), custody.account().n_requests()), (0.0, 0));
    }

    #[test]
    fn a_state_that_was_sent_and_not_acknowledged_counts_as_not_saved() {
        let mut custody = after(1_000);
        audit(&mut custody);
        custody.send();
        custody.unsettle();

        assert!(custody.is_changed());
        assert_eq!(custody.give_up().bound(), 1.0);
    }

    #[test]
    fn an_audit_is_released_only_where_its_charge_is() {
        let mut custody = after(1_000);
        let before_saving = audit(&mut custody);
        custody.send();
        custody.settle();
        let after_saving = audit(&mut custody);
        custody.release(1.0, before_saving);
        custody.release(1.0, after_saving);
        assert!(custody.account().bound().abs() < 1e-12);
        assert!(custody.since_saved.account.bound().abs() < 1e-12);
        let lost = audit(&mut custody);

        custody.give_up();
        custody.release(1.0, lost);

        assert_eq!(custody.account().bound(), 0.0);
    }

    #[test]
    fn what_comes_while_a_state_is_being_saved_is_in_the_next_one() {
        let mut custody = after(1_000);
        custody.send();
        assert!(!custody.is_changed());
        audit(&mut custody);
        custody.settle();

        assert!(custody.is_changed());
        assert_eq!(custody.give_up().bound(), 1.0);
    }
}
