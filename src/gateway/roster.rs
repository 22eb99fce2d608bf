//! Puts teams and keys of the database in force, as they were changed over HTTP, by the command line or by
//! another replica.
//!
//! Changes none of them.
//!
//! Invariants: a budget is in force only after the past of its windows was read; an end counts even where a
//! budget has to wait; while the database is away the last ones read stay in force.

use super::{Gateway, Members};
use crate::team::Roster;

impl Gateway {
    /// Reads teams and keys again, so that what was changed counts; what hinders it is logged, too.
    pub async fn refresh_roster(&self) -> Result<(), String> {
        let _turn = self.changing.lock().await;
        let roster = self.ledger.keys().load_roster().await.map_err(|error| {
            let problem = format!("teams and keys were not read again, the last ones stay in force: {error}");
            tracing::warn!("{problem}");
            problem
        })?;
        if *self.live().members().roster == roster {
            return Ok(());
        }
        self.put_roster_in_force(roster).await.inspect_err(|problem| tracing::error!("{problem}"))
    }

    async fn put_roster_in_force(&self, roster: Roster) -> Result<(), String> {
        let live = self.live();
        let members = Members::new(&live.config, roster);
        if members.ring.is_open() && !self.listen.ip().is_loopback() {
            let problem = "no key and no team is left; the last ones stay in force, or anybody could spend";
            return Err(problem.to_owned());
        }
        if let Err(error) = self.ledger.follow(&members.ring.budgets()).await {
            let before = live.members();
            live.set_members(Members::new(&live.config, before.roster.with_ends_of(&members.roster)));
            return Err(format!("changes to teams and keys wait, but for their ends: {error}"));
        }
        live.set_members(members);
        Ok(())
    }
}
