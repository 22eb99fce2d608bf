//! Who goes first, and who gives way, under each policy.

use super::*;
use crate::scheduler::Policy;

/// The order in which they finish if one runs at a time: a long one first, so that all others wait.
fn order(policy: Policy, requests: Vec<GenerateRequest>) -> Vec<usize> {
    let mut bench = Bench::new(&EngineConfig { policy, max_running: 1, ..config() });
    let _first = bench.submit(GenerateRequest { tenant: 99, priority: 99, ..request(40, 30) });
    bench.step();
    let mut waiting: Vec<Option<Generation>> =
        requests.into_iter().map(|request| Some(bench.submit(request))).collect();
    let mut finished = Vec::new();
    while finished.len() < waiting.len() {
        bench.step();
        for (idx, generation) in waiting.iter_mut().enumerate() {
            let event = generation.as_mut().and_then(Generation::try_next);
            if event.is_some() {
                finished.push(idx);
                *generation = None;
            }
        }
    }
    finished
}

fn of_tenant(tenant: u64) -> GenerateRequest {
    GenerateRequest { tenant, ..request(5, 5) }
}

#[test]
fn each_policy_has_its_order() {
    let high = || GenerateRequest { priority: 1, ..request(5, 5) };
    let known = || request(40, 5);

    assert_eq!(order(Policy::Fcfs, vec![request(5, 5), high(), known()]), [0, 1, 2]);
    assert_eq!(order(Policy::Priority, vec![request(5, 5), high(), known()]), [1, 0, 2]);
    assert_eq!(order(Policy::LongestPrefix, vec![request(5, 5), high(), known()]), [2, 0, 1]);
    let tenants = [1, 1, 1, 2, 2].map(of_tenant);
    assert_eq!(order(Policy::Fair, tenants.into()), [0, 3, 1, 4, 2]);
}

#[test]
fn a_tenant_who_asks_much_does_not_hold_up_one_who_asks_little() {
    let greedy = (0..20).map(|_| GenerateRequest { tenant: 1, ..request(30, 20) });
    let requests: Vec<GenerateRequest> = greedy.chain([of_tenant(2), of_tenant(2)]).collect();

    let order = order(Policy::Fair, requests);

    assert_eq!(order[..3], [0, 20, 21]);
}

#[test]
fn who_has_no_cached_prefix_is_overtaken_only_so_often() {
    let unknown = GenerateRequest { salt: 7, ..request(40, 5) };
    let requests: Vec<GenerateRequest> =
        std::iter::once(unknown).chain((0..50).map(|_| request(40, 5))).collect();

    let order = order(Policy::LongestPrefix, requests);

    assert_eq!(order.iter().position(|idx| *idx == 0), Some(32));
}

/// Whether the first of two, who together need more blocks than there are, gave way to the second.
fn first_gives_way(policy: Policy) -> bool {
    let mut bench = Bench::new(&EngineConfig { policy, n_blocks: Some(3), watermark: 0.0, ..config() });
    let generations = [(10, 0), (11, 1)].map(|(n_prompt, priority)| {
        let request = GenerateRequest { priority, ..request(n_prompt, 30) };
        bench.submit(request)
    });
    while bench.core.meters().stats().n_preempted == 0 {
        bench.step();
    }
    let kept: Vec<u64> = bench.core.running.iter().map(|sequence| sequence.turn.arrival).collect();
    bench.run();
    let [first, second] = generations.map(|generation| hear(generation).0);
    assert_eq!((first, second), (answer(10, 30), answer(11, 30)));
    kept == [1]
}

#[test]
fn the_last_to_arrive_gives_way_unless_it_has_the_greater_priority() {
    assert!(!first_gives_way(Policy::Fcfs));
    assert!(!first_gives_way(Policy::Fair));
    assert!(!first_gives_way(Policy::LongestPrefix));
    assert!(first_gives_way(Policy::Priority));
}
