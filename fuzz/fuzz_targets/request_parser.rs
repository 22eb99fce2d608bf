//! A request is read or refused, never a panic; what is read goes out and can be read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stiver::chat::{Endpoint, Request};
use stiver::upstream::openai::{StreamMode, to_wire};

fuzz_target!(|body: &[u8]| {
    for endpoint in [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings] {
        let Ok(request) = Request::parse(endpoint, body) else { continue };
        let mode = if request.stream { StreamMode::Stream } else { StreamMode::Whole };

        let wire = to_wire(&request.fields, request.route.as_str(), mode);

        let mut expected = request.fields.clone();
        expected.set_json("model", &request.route);
        assert_eq!(wire, expected.to_json());
        let again = Request::parse(endpoint, &wire).expect("what we send is well formed");
        assert_eq!(again.route, request.route);
        assert_eq!(again.messages.len(), request.messages.len());
        let asked = to_wire(&request.fields, "m", StreamMode::StreamWithUsage);
        let asked = Request::parse(endpoint, &asked).expect("what we send is well formed");
        assert!(asked.stream && asked.include_usage && asked.route.as_str() == "m");
    }
});
