//! How many tokens each tenant was served: the virtual time of fair queueing.
//!
//! Orders nobody (`order` does) and knows no sequences.
//!
//! Invariants: a tenant who comes back has no claim to what it left unused: it starts at the least served
//! of those who are there; the table holds those who are there and those who are ahead of them, so it does
//! not grow with the tenants of a day.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct Served {
    tenants: HashMap<u64, Tenant>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tenant {
    n_tokens: i64,
    /// Sequences that are waiting or running.
    n_present: usize,
}

impl Served {
    pub fn n_tokens(&self, tenant: u64) -> i64 {
        self.tenants.get(&tenant).map_or(0, |tenant| tenant.n_tokens)
    }

    /// A sequence of the tenant came.
    pub fn arrive(&mut self, tenant: u64) {
        let floor = self.floor();
        let entry = self.tenants.entry(tenant).or_default();
        if entry.n_present == 0 {
            entry.n_tokens = entry.n_tokens.max(floor.unwrap_or(0));
        }
        entry.n_present += 1;
    }

    pub fn charge(&mut self, tenant: u64, n_tokens: usize) {
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.n_tokens += n_tokens as i64;
        }
    }

    /// A sequence of the tenant is over.
    pub fn leave(&mut self, tenant: u64) {
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.n_present = tenant.n_present.saturating_sub(1);
        }
        match self.floor() {
            None => self.tenants.clear(),
            // Whoever is not ahead would start at the floor anyway.
            Some(floor) => {
                self.tenants.retain(|_, tenant| tenant.n_present > 0 || tenant.n_tokens > floor);
            }
        }
    }

    /// The least that anybody present was served.
    fn floor(&self) -> Option<i64> {
        self.tenants.values().filter(|tenant| tenant.n_present > 0).map(|tenant| tenant.n_tokens).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_who_comes_late_starts_at_the_least_served() {
        let mut served = Served::default();
        [1, 2].into_iter().for_each(|tenant| served.arrive(tenant));
        served.charge(1, 100);
        served.charge(2, 70);

        served.arrive(3);

        assert_eq!([1, 2, 3].map(|tenant| served.n_tokens(tenant)), [100, 70, 70]);
    }

    #[test]
    fn a_tenant_who_was_ahead_and_comes_back_is_still_ahead() {
        let mut served = Served::default();
        [1, 2].into_iter().for_each(|tenant| served.arrive(tenant));
        served.charge(1, 100);
        served.leave(1);

        served.arrive(1);

        assert_eq!(served.n_tokens(1), 100);
    }

    #[test]
    fn those_who_left_are_forgotten_when_they_are_no_longer_ahead() {
        let mut served = Served::default();
        [1, 2, 3].into_iter().for_each(|tenant| served.arrive(tenant));
        served.charge(1, 100);
        served.leave(1);
        served.charge(2, 100);
        served.charge(3, 101);

        served.leave(3);
        assert_eq!(served.tenants.len(), 2);
        served.leave(2);
        assert_eq!(served.tenants.len(), 0);
    }
}
