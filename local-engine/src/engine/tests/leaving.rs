//! How a generation ends otherwise than by itself, in every state; and how an engine does.

use super::*;
use crate::sequence::State;

/// Where a sequence is when it has to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    Prefilling,
    Decoding,
    Preempted,
}

const PLACES: [Place; 4] = [Place::Waiting, Place::Prefilling, Place::Decoding, Place::Preempted];

/// A bench with one other sequence and one that is in the place.
fn bench_at(place: Place) -> (Bench, Generation, Generation) {
    let config = EngineConfig {
        n_blocks: Some(6),
        max_running: 2,
        max_step_tokens: 40,
        max_chunk_tokens: 20,
        watermark: 0.0,
        ..config()
    };
    let mut bench = Bench::new(&config);
    let (n_prompt, n_steps) = match place {
        // All the blocks are taken when it comes.
        Place::Waiting => (80, 1),
        // The second chunk of three.
        Place::Prefilling => (50, 2),
        Place::Decoding => (5, 3),
        // The other, ahead of it, takes the last block in its 29th step.
        Place::Preempted => (5, 42),
    };
    let other = bench.submit(request(if place == Place::Waiting { 30 } else { 20 }, 60));
    let mut deadlined = request(n_prompt, 100);
    deadlined.deadline = Some(bench.at_ms(1000));
    let own = bench.submit(deadlined);
    for _ in 0..n_steps {
        bench.step();
    }
    assert_eq!(place_of(&bench), Some(place));
    (bench, other, own)
}

fn place_of(bench: &Bench) -> Option<Place> {
    let sequences = bench.core.running.iter().chain(&bench.core.waiting);
    let own = sequences.into_iter().find(|sequence| sequence.turn.arrival == 1)?;
    Some(match (&own.state, own.gap()) {
        (State::Waiting, _) => Place::Waiting,
        (State::Running, 1) => Place::Decoding,
        (State::Running, _) => Place::Prefilling,
        (State::Preempted, _) => Place::Preempted,
        (State::Finished(_), _) => return None,
    })
}

/// The other one goes on as if nothing had happened.
fn check_other(bench: &mut Bench, place: Place, other: Generation) {
    assert_eq!(place_of(bench), None, "{place:?}");
    bench.run();
    let n_prompt = if place == Place::Waiting { 30 } else { 20 };
    assert_eq!(hear(other).0, answer(n_prompt, 60), "{place:?}");
    assert_eq!(bench.core.meters().stats().n_blocks_used, 0);
}

#[test]
fn a_deadline_ends_it_in_every_state() {
    for place in PLACES {
        let (mut bench, other, own) = bench_at(place);

        bench.now_ms.store(999, Ordering::Relaxed);
        bench.step();
        assert!(place_of(&bench).is_some(), "{place:?} ended too early");
        bench.now_ms.store(1000, Ordering::Relaxed);
        bench.step();

        check_other(&mut bench, place, other);
        assert_eq!(hear(own).1.reason, FinishReason::Deadline);
    }
}

#[test]
fn an_abort_ends_it_in_every_state_and_tells_what_it_took() {
    for place in PLACES {
        let (mut bench, other, own) = bench_at(place);

        own.abort();
        bench.step();

        check_other(&mut bench, place, other);
        let (tokens, finish) = hear(own);
        assert_eq!((finish.reason, finish.usage.n_generated), (FinishReason::Aborted, tokens.len()));
    }
}

#[test]
fn a_dropped_generation_ends_in_every_state() {
    for place in PLACES {
        let (mut bench, other, own) = bench_at(place);

        drop(own);
        bench.step();

        check_other(&mut bench, place, other);
    }
}

#[test]
fn a_caller_who_leaves_during_a_step_frees_its_blocks_before_the_next() {
    let (engine, gate) = gated(config());
    let staying = engine.submit(request(5, 3)).unwrap();
    let leaving = engine.submit(request(6, 200)).unwrap();
    gate.try_send(()).unwrap();

    drop(leaving);
    drop(gate);
    let (tokens, _) = hear(staying);
    engine.close();

    assert_eq!(tokens, answer(5, 3));
    let stats = engine.stats();
    assert_eq!((stats.n_blocks_used, stats.n_finished), (0, 2));
    assert!(stats.n_steps <= 6, "{} steps", stats.n_steps);
}

#[test]
fn a_deadline_that_is_over_at_submission_ends_it_without_a_step() {
    let engine = engine(Faults::default(), config());
    let late = GenerateRequest { deadline: Some(Instant::now()), ..request(5, 5) };

    let (tokens, finish) = hear(engine.submit(late).unwrap());
    engine.close();

    assert_eq!((tokens, finish.reason), (vec![], FinishReason::Deadline));
    assert_eq!(engine.stats().n_steps, 0);
}

#[test]
fn closing_finishes_what_is_there() {
    let (engine, gate) = gated(EngineConfig { max_running: 1, ..config() });
    let generations: Vec<Generation> =
        [5, 6, 7].into_iter().map(|n_prompt| engine.submit(request(n_prompt, 4)).unwrap()).collect();

    let closing = {
        let engine = engine.clone();
        std::thread::spawn(move || engine.close())
    };
    drop(gate);
    closing.join().unwrap();

    for (n_prompt, generation) in (5..).zip(generations) {
        assert_eq!(hear(generation).0, answer(n_prompt, 4));
    }
    assert_eq!(engine.stats().n_finished, 3);
}

#[test]
fn draining_ends_what_is_not_finished_in_time() {
    let (engine, gate) = gated(config());
    let generation = engine.submit(request(5, 200)).unwrap();
    // One step, so that the thread is past the door and waits for the second.
    gate.try_send(()).unwrap();

    engine.handle.inbox.shut(Door::Draining(Some(Instant::now())));
    drop(gate);
    engine.drain(Duration::ZERO);

    let (_, finish) = hear(generation);
    assert!(is_failed(&finish, "shut down before"), "{finish:?}");
    assert_eq!(engine.stats().n_finished, 1);
}

#[test]
fn the_last_handle_takes_everything_with_it() {
    let (engine, gate) = gated(config());
    let generation = engine.submit(request(5, 200)).unwrap();
    let inbox = Arc::clone(&engine.handle.inbox);

    drop(engine);
    drop(gate);
    inbox.wait_until_gone();

    let (_, finish) = hear(generation);
    assert!(is_failed(&finish, "shut down"), "{finish:?}");
}

#[test]
fn a_step_that_fails_ends_those_who_had_a_share_in_it() {
    let failing = Faults { fail_at: Some(2), ..Faults::default() };
    let panicking = Faults { panic_at: Some(2), ..Faults::default() };
    for (faults, why) in [(failing, "failed in step 2"), (panicking, "panicked in step 2")] {
        let engine = engine(faults, EngineConfig { max_running: 1, ..config() });
        let first = engine.submit(request(5, 10)).unwrap();
        let second = engine.submit(request(6, 10)).unwrap();

        let (tokens, finish) = hear(first);
        assert_eq!(tokens, answer(5, 2));
        assert!(is_failed(&finish, why), "{finish:?}");

        assert_eq!(hear(second).0, answer(6, 10));
        engine.close();
        assert_eq!(engine.stats().n_blocks_used, 0);
    }
}

#[test]
fn a_breakdown_ends_everybody_and_begins_anew() {
    let (mut bench, other, own) = bench_at(Place::Waiting);

    bench.core.break_down("something is wrong");

    assert!(bench.core.is_idle());
    for generation in [other, own] {
        assert!(is_failed(&hear(generation).1, "something is wrong"));
    }
    let next = bench.submit(request(40, 5));
    bench.run();
    assert_eq!(hear(next).0, answer(40, 5));
}
