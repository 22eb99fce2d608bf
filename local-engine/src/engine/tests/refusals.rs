//! What is not taken, and what is not started.

use super::*;
use crate::speculate::{SpeculationConfig, SpeculationKind};

fn refusal(config: EngineConfig, request: GenerateRequest) -> Option<SubmitError> {
    engine(Faults::default(), config).submit(request).err()
}

#[test]
fn a_prompt_that_leaves_no_room_to_answer_is_refused_with_sizes() {
    assert_eq!(refusal(config(), request(255, 1)), None);
    assert_eq!(
        refusal(config(), request(256, 1)),
        Some(SubmitError::PromptTooLong { n_prompt: 256, context: 256 })
    );
}

#[test]
fn a_prompt_that_would_never_fit_into_the_blocks_is_refused_with_sizes() {
    let config = EngineConfig { n_blocks: Some(2), ..config() };

    assert_eq!(refusal(config.clone(), request(31, 1)), None);
    assert_eq!(
        refusal(config, request(32, 1)),
        Some(SubmitError::PromptTooLong { n_prompt: 32, context: 32 })
    );
}

#[test]
fn an_answer_ends_where_the_blocks_do() {
    let engine = engine(Faults::default(), EngineConfig { n_blocks: Some(2), ..config() });

    let (tokens, finish) = hear(engine.submit(request(20, 100)).unwrap());

    assert_eq!((tokens, finish.reason), (answer(20, 12), FinishReason::Length));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let unknown = GenerateRequest { prompt: [1, 64].into(), ..request(1, 1) };
    let sampling = SamplingParams { temperature: -1.0, min_p: 2.0, ..SamplingParams::default() };
    let heated = GenerateRequest { sampling, ..request(1, 1) };

    assert_eq!(refusal(config(), request(0, 1)), Some(SubmitError::EmptyPrompt));
    assert!(matches!(refusal(config(), request(1, 0)), Some(SubmitError::Invalid(_))));
    assert!(
        matches!(refusal(config(), unknown), Some(SubmitError::Invalid(why)) if why.contains("token 64 at position 1"))
    );
    assert!(
        matches!(refusal(config(), heated), Some(SubmitError::Invalid(why)) if why.contains("min_p") && why.contains("temperature"))
    );
}

#[test]
fn a_full_queue_refuses_until_somebody_is_finished() {
    let (engine, gate) = gated(EngineConfig { max_running: 1, max_queue: 1, ..config() });
    let first = engine.submit(request(5, 1)).unwrap();
    let second = engine.submit(request(6, 1)).unwrap();

    let refusal = engine.submit(request(7, 1)).err();
    assert!(matches!(refusal, Some(SubmitError::QueueFull { n_waiting: 1 | 2 })), "{refusal:?}");

    gate.try_send(()).unwrap();
    assert_eq!(hear(first).0, answer(5, 1));
    let third = engine.submit(request(7, 1)).unwrap();
    drop(gate);
    assert_eq!((hear(second).0, hear(third).0), (answer(6, 1), answer(7, 1)));
}

#[test]
fn a_closed_engine_refuses() {
    let engine = engine(Faults::default(), config());
    engine.close();
    engine.close();

    assert_eq!(engine.submit(request(5, 1)).err(), Some(SubmitError::Closed));
}

fn mistakes(parts: EngineParts, config: EngineConfig) -> Vec<String> {
    match Engine::start(parts, config) {
        Err(EngineError::Config(mistakes)) => mistakes,
        Err(error) => panic!("{error}"),
        Ok(_) => Vec::new(),
    }
}

#[test]
fn an_engine_that_is_badly_configured_does_not_start() {
    let config = EngineConfig { max_running: 0, watermark: 2.0, ..config() };

    assert_eq!(mistakes(parts(Faults::default()), config).len(), 2);
    let tiny = EngineConfig { kv_bytes: Some(1), ..EngineConfig::default() };
    assert_eq!(mistakes(parts(Faults::default()), tiny).len(), 1);
}

#[test]
fn a_draft_model_has_to_fit_the_model() {
    let speculation = SpeculationConfig { kind: SpeculationKind::Draft, ..SpeculationConfig::default() };
    let config = EngineConfig { speculation, ..config() };
    let drafted = |n_vocab, context| EngineParts {
        draft: Some(Box::new(SimBackend::new(Sim { n_vocab, context, ..sim() }))),
        vocabulary: Arc::new(Vocabulary::new(vec![Box::from([b'a'].as_slice()); 60], Vec::new())),
        ..parts(Faults::default())
    };

    assert_eq!(mistakes(parts(Faults::default()), config.clone()).len(), 1);
    for (n_vocab, context, n_mistakes) in
        [(60, 256, 0), (70, 300, 0), (59, 256, 1), (60, 255, 1), (59, 255, 2)]
    {
        assert_eq!(mistakes(drafted(n_vocab, context), config.clone()).len(), n_mistakes);
    }
}

#[test]
fn what_would_slow_every_token_down_is_bounded_on_both_sides() {
    let with = |change: &dyn Fn(&mut GenerateRequest)| {
        let mut request = request(1, 1);
        change(&mut request);
        refusal(config(), request)
    };
    let stops = |n: usize, length: usize| {
        move |request: &mut GenerateRequest| {
            request.stop.strings = vec!["x".repeat(length); n];
        }
    };

    assert_eq!(with(&stops(32, 1_024)), None);
    for (name, refused) in [
        ("strings", with(&stops(33, 1))),
        ("bytes", with(&stops(1, 1_025))),
        ("tokens", with(&|request| request.stop.tokens = vec![1; 33])),
        ("alternatives", with(&|request| request.logprobs = Some(65))),
    ] {
        assert!(
            matches!(&refused, Some(SubmitError::Invalid(why)) if why.contains(name)),
            "{name}: {refused:?}"
        );
    }
    assert_eq!(with(&|request| request.logprobs = Some(64)), None);
}
