//! The endpoints beside chat: completions, embeddings (from an upstream and our own), models.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fake_upstream::FakeUpstream;
use crate::harness::{COMPLETIONS, EMBEDDINGS, Setup, TestGateway, endpoints, have_models, key_of, team};

const OWN_MODEL: &str = "all-MiniLM-L6-v2";

#[tokio::test]
async fn completions_are_answered_whole_and_streamed_alike() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let whole = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon"});
    let mut streamed = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon", "stream": true});
    streamed["stream_options"] = json!({"include_usage": true});

    let whole = gateway.post(COMPLETIONS, &whole).await;
    let streamed = gateway.post_with(COMPLETIONS, &streamed, &[("cache-control", "no-cache")]).await;

    let chunks = streamed.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/text")?.as_str()).collect();
    assert_eq!(whole.json()["choices"][0]["text"], json!(text));
    assert_eq!(whole.usage(), streamed.usage());
    assert_eq!(whole.cost_nano_usd().unwrap() * 2, fake.bill().total_nano_usd);
    assert_eq!(gateway.row_of(&streamed).await.endpoint, "completions");
    gateway.finish().await;
}

#[tokio::test]
async fn embeddings_come_from_the_upstream_as_it_sends_them() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let ask = |format: &str| json!({"model": "text-embedding-3-small", "input": ["a b", "c"], "encoding_format": format, "dimensions": 8});

    let floats = gateway.post(EMBEDDINGS, &ask("float")).await;
    let base64 = gateway.post(EMBEDDINGS, &ask("base64")).await;

    assert_eq!(floats.json()["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(vector(&floats.json()["data"][1]).len(), 8);
    for idx in [0, 1] {
        assert_eq!(vector(&floats.json()["data"][idx]), decoded(&base64.json()["data"][idx]));
    }
    assert_eq!(floats.cost_nano_usd().unwrap() * 2, fake.bill().total_nano_usd);
    assert_eq!(floats.header("x-stiver-path"), "upstream");
    gateway.finish().await;
}

#[tokio::test]
async fn our_own_embeddings_cost_nothing_and_put_like_near_like() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let toml = endpoints(&fake) + "[cache.semantic]\nenabled = false\n";
    let gateway = Setup::of(&toml).with_models().start().await;
    let texts = ["How do I reset my password?", "How can I reset my password?", "The soup is cold."];
    let ask = |format: &str| json!({"model": OWN_MODEL, "input": texts, "encoding_format": format});

    let floats = gateway.post(EMBEDDINGS, &ask("float")).await;
    let base64 = gateway.post(EMBEDDINGS, &ask("base64")).await;

    let vectors: Vec<Vec<f32>> = (0..3).map(|idx| vector(&floats.json()["data"][idx])).collect();
    assert_eq!(vectors[0].len(), 384);
    for (idx, vector) in vectors.iter().enumerate() {
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-3, "its length is 1");
        assert_eq!(&decoded(&base64.json()["data"][idx]), vector);
    }
    assert!(cosine(&vectors[0], &vectors[1]) > 0.95);
    assert!(cosine(&vectors[0], &vectors[2]) < 0.5);
    assert_eq!((floats.header("x-stiver-path"), floats.header("x-stiver-cost-usd")), ("local", "0.00"));
    assert!(fake.calls().is_empty());
    gateway.finish().await;
}

#[tokio::test]
async fn our_own_embedder_says_what_it_cannot_embed() {
    if !have_models() {
        return;
    }
    let toml = endpoints(&FakeUpstream::start()) + "[cache.semantic]\nenabled = false\n";
    let gateway = Setup::of(&toml).with_models().start().await;
    for (body, param) in [
        (json!({"model": OWN_MODEL, "input": [1, 2, 3]}), "input"),
        (json!({"model": OWN_MODEL, "input": "x", "encoding_format": "hex"}), "encoding_format"),
        (json!({"model": OWN_MODEL, "input": "word ".repeat(2_000)}), "input"),
    ] {
        let answer = gateway.post(EMBEDDINGS, &body).await;

        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["error"]["param"], json!(param));
    }
    gateway.finish().await;
}

fn vector(item: &Value) -> Vec<f32> {
    let numbers = item["embedding"].as_array().expect("an embedding is an array of numbers");
    numbers.iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

fn decoded(item: &Value) -> Vec<f32> {
    let bytes = STANDARD.decode(item["embedding"].as_str().expect("an embedding is text")).expect("base64");
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn models_lists_the_routes_a_key_may_ask_for() {
    let fake = FakeUpstream::start();
    let toml =
        endpoints(&fake) + &team("search", "routes = [\"gpt-4o\", \"gpt-4o-mini\"]") + &team("all", "");
    let gateway = TestGateway::start(&toml).await;
    let list = async |team: &str| {
        let (name, key) = key_of(team);
        let answer = gateway.get_with("/v1/models", &[(name, &key)]).await;
        let listed = answer.json()["data"].as_array().cloned().unwrap_or_default();
        listed.iter().map(|model| model["id"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };

    assert_eq!(list("search").await, ["gpt-4o", "gpt-4o-mini"]);
    assert_eq!(list("all").await.len(), 5);
    let (name, key) = key_of("search");
    let one = gateway.get_with("/v1/models/gpt-4o", &[(name, &key)]).await;
    assert_eq!((one.status, &one.json()["object"]), (200, &json!("model")));
    let hidden = gateway.get_with("/v1/models/text-embedding-3-small", &[(name, &key)]).await;
    assert_eq!((hidden.status, hidden.error().1.as_str()), (404, "model_not_found"));
    let stranger = gateway.get("/v1/models").await;
    assert_eq!((stranger.status, stranger.error().1.as_str()), (401, "invalid_api_key"));
    gateway.finish().await;
}
