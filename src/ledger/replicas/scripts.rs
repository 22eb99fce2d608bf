//! The scripts that run in the shared store, and what they answer.
//!
//! Decides nothing and keeps nothing.
//!
//! Invariants: amounts go as whole decimal numbers; a script counts in doubles, which are exact to nine
//! million dollars in one account.

use super::names::{account_key, accounts, call_key, kept_for_ms, leases_key};
use super::{Asking, Settlement};
use crate::ledger::budget::AccountId;
use crate::money::NanoUsd;
use crate::shared::{Script, SharedError, SharedStore};
use crate::team::TeamName;

#[derive(Debug)]
pub(super) struct Scripts {
    hold: Script,
    settle: Script,
    seed: Script,
    late: Script,
    renew: Script,
    first: Script,
    account_now: Script,
    rebuild: Script,
}

/// A hold, as the script needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holding<'a> {
    pub(super) ask: Asking<'a>,
    pub(super) accounts: &'a [AccountId],
    pub(super) limits: &'a [Option<NanoUsd>],
    pub(super) holder: &'a str,
    /// Held whatever the limits say.
    pub(super) is_forced: bool,
}

/// What became of a hold. Balances are what is spent and held, account by account.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Granted {
    Yes {
        /// The store did not know this holder.
        is_new: bool,
        balances: Vec<(NanoUsd, NanoUsd)>,
    },
    No {
        balances: Vec<(NanoUsd, NanoUsd)>,
    },
    /// These accounts have no balance yet.
    Unknown {
        places: Vec<usize>,
    },
    /// The holder's lease ran out.
    Lapsed,
    /// The call has ended already.
    Ended,
}

/// What the database has for an account.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) spent: NanoUsd,
    /// Calls that were settled before the account had a balance, and that are in `spent`.
    pub(super) counted: Vec<String>,
}

/// What became of a sign of life.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    Yes,
    Lapsed,
    Unknown,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            hold: Script::new(include_str!("hold.lua")),
            settle: Script::new(include_str!("settle.lua")),
            seed: Script::new(include_str!("seed.lua")),
            late: Script::new(include_str!("late.lua")),
            renew: Script::new(include_str!("renew.lua")),
            first: Script::new(include_str!("first.lua")),
            account_now: Script::new(include_str!("account_now.lua")),
            rebuild: Script::new(include_str!("rebuild.lua")),
        }
    }

    pub(super) async fn hold(
        &self,
        shared: &SharedStore,
        holding: &Holding<'_>,
        now_ms: i64,
    ) -> Result<Granted, SharedError> {
        let Holding { ask, accounts: ids, limits, holder, is_forced } = *holding;
        let team = &ask.payer.team;
        let mut keys = vec![call_key(team, ask.id), leases_key(team)];
        let lease_ms = shared.lease().as_millis();
        let mut args =
            vec![holder.to_owned(), ask.ceiling.get().to_string(), lease_ms.to_string(), flag(is_forced)];
        for ((key, kept_for_ms), limit) in accounts(team, ids, now_ms).into_iter().zip(limits) {
            keys.push(key);
            args.push(limit.map_or(-1, NanoUsd::get).to_string());
            args.push(kept_for_ms.to_string());
        }
        let said: Vec<i64> = shared.run(&self.hold, &keys, &args).await?;
        Ok(Granted::read(&said))
    }

    pub(super) async fn settle(
        &self,
        shared: &SharedStore,
        settlement: &Settlement,
    ) -> Result<(), SharedError> {
        let Settlement { id, call, accounts, ceiling, cost, is_in_database } = settlement;
        let mut keys = vec![call.clone()];
        let (ceiling, cost) = (ceiling.get().to_string(), cost.get().to_string());
        let mut args = vec![ceiling, cost, flag(*is_in_database), id.to_string()];
        for (key, kept_for_ms) in accounts {
            keys.push(key.clone());
            args.push(kept_for_ms.to_string());
        }
        shared.insist::<i64>(&self.settle, &keys, &args).await.map(drop)
    }

    pub(super) async fn seed(
        &self,
        shared: &SharedStore,
        (team, id): (&TeamName, &AccountId),
        Past { spent, counted }: Past,
        now_ms: i64,
    ) -> Result<(), SharedError> {
        let mut args = vec![spent.get().to_string(), kept_for_ms(id, now_ms).to_string()];
        args.extend(counted);
        shared.run::<i64>(&self.seed, &[account_key(team, id)], &args).await.map(drop)
    }

    /// Calls that were settled in an account before it had a balance.
    pub(super) async fn late(
        &self,
        shared: &SharedStore,
        team: &TeamName,
        id: &AccountId,
    ) -> Result<Vec<String>, SharedError> {
        shared.run(&self.late, &[account_key(team, id)], &[]).await
    }

    pub(super) async fn rebuild(
        &self,
        shared: &SharedStore,
        (team, id): (&TeamName, &AccountId),
        spent: NanoUsd,
        now_ms: i64,
    ) -> Result<(), SharedError> {
        let args = [spent.get().to_string(), kept_for_ms(id, now_ms).to_string()];
        shared.insist::<i64>(&self.rebuild, &[account_key(team, id)], &args).await.map(drop)
    }

    pub(super) async fn renew(
        &self,
        shared: &SharedStore,
        team: &TeamName,
        holder: &str,
    ) -> Result<Renewed, SharedError> {
        let args = [holder.to_owned(), shared.lease().as_millis().to_string()];
        Ok(match shared.insist::<i64>(&self.renew, &[leases_key(team)], &args).await? {
            0 => Renewed::Lapsed,
            1 => Renewed::Yes,
            _ => Renewed::Unknown,
        })
    }

    pub(super) async fn first(
        &self,
        shared: &SharedStore,
        key: String,
        ttl_ms: i64,
    ) -> Result<bool, SharedError> {
        Ok(shared.run::<i64>(&self.first, &[key], &[ttl_ms.to_string()]).await? == 1)
    }

    pub(super) async fn account_now(
        &self,
        shared: &SharedStore,
        team: &TeamName,
        id: &AccountId,
    ) -> Result<(Option<NanoUsd>, NanoUsd), SharedError> {
        let keys = [account_key(team, id), leases_key(team)];
        let (spent, held): (i64, i64) = shared.insist(&self.account_now, &keys, &[]).await?;
        Ok(((spent >= 0).then(|| NanoUsd::new(spent)), NanoUsd::new(held)))
    }
}

impl Granted {
    fn read(said: &[i64]) -> Self {
        let balances = |pairs: &[i64]| {
            let pair = |pair: &[i64]| (NanoUsd::new(pair[0]), NanoUsd::new(pair[1]));
            pairs.chunks_exact(2).map(pair).collect()
        };
        match said {
            [1, is_new, pairs @ ..] => Self::Yes { is_new: *is_new == 1, balances: balances(pairs) },
            [0, _, pairs @ ..] => Self::No { balances: balances(pairs) },
            [2, places @ ..] => Self::Unknown {
                places: places.iter().filter_map(|place| usize::try_from(*place).ok()).collect(),
            },
            [3, ..] => Self::Lapsed,
            _ => Self::Ended,
        }
    }
}

fn flag(is_set: bool) -> String {
    String::from(if is_set { "1" } else { "0" })
}
