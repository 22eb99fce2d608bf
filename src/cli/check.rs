//! `stiver check`: what a configuration that was read would do. Mistakes are reported before it runs.
//!
//! Connects to nothing.

use super::Done;
use crate::config::Config;
use crate::routing::Route;

pub(super) fn run(config: &Config) -> Done {
    println!("{}: no mistake", config.origin);
    println!("listen     {}", config.server.listen);
    for (name, upstream) in &config.upstreams {
        let state = if upstream.is_off() { "off: its api_key is empty" } else { "on" };
        println!("upstream   {name}: {} ({state})", upstream.model());
    }
    for route in config.catalog.routes() {
        println!("route      {}: {}", route.name, rungs(route));
    }
    for split in config.splits.iter() {
        println!("split      {split}");
    }
    for (name, team) in &config.teams {
        let text = team.text.map_or(String::new(), |keep| format!(", text kept for {} days", keep.days));
        println!(
            "team       {name}: {} budgets, {} limits{text}",
            team.budgets.len(),
            team.limits.given().count()
        );
    }
    println!("keys       {} in the file, others in the database", config.keys.len());
    if config.keys.is_empty() && config.teams.is_empty() && !config.server.listen.ip().is_loopback() {
        println!("note       without a key or a team in the database this address is refused at the start");
    }
    Ok(())
}

fn rungs(route: &Route) -> String {
    let one = |rung: &crate::routing::Rung| {
        let names = rung.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if route.has_ladder() {
            format!("{} (score up to {}): {names}", rung.tier, rung.up_to)
        } else {
            names
        }
    };
    route.rungs.iter().map(one).collect::<Vec<_>>().join(" | ")
}
