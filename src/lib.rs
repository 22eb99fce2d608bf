//! Stiver: an LLM gateway that spends as little as the answer allows.
//!
//! The modules stand in the order a reader needs them; imports run upwards only, which
//! `tests/architecture.rs` holds.
//!
//! # Words
//!
//! | word | means |
//! |---|---|
//! | **call** | one client request in flight |
//! | **endpoint** | an HTTP path we serve |
//! | **route** | the model name a client asks for (`auto`, `gpt-4o`) |
//! | **tier** | a rung of cost and ability on the **ladder** |
//! | **upstream** | one concrete place that can answer: dialect + model + address + key |
//! | **dialect** | a wire format: openai, anthropic, local |
//! | **score** | complexity in [0, 1] |
//! | **split / arm / unit** | an A/B experiment on a route / its variant / what is kept in one arm |
//! | **plan** | tier, attempts in order, reason, ceiling cost |
//! | **hold → posted / voided** | money set aside, then spent or released |
//! | **ledger, posting, budget** | append-only book / one line of it / a limit per window |
//! | **hit / miss / bypass** | answer found / not found, will fill / not cacheable |
//! | **scope** | who may share a cached answer |

// Layer 0: vocabulary.
pub mod chat;
pub mod clock;
pub mod money;
pub mod team;

// Layer 1: decisions; pure.
pub mod pricing;
pub mod prompt;
pub mod routing;

// Layer 2: adapters, each with its own error.
pub mod admission;
pub mod cache;
pub mod complexity;
pub mod ledger;
pub mod notice;
pub mod onnx;
pub mod shared;
pub mod telemetry;
pub mod upstream;

// Layer 3: what they are built from, and the whole.
pub mod config;
pub mod gateway;

// Layer 4: the story of a call.
pub mod error;
pub mod pipeline;

// Layer 5: the edge.
pub mod cli;
pub mod server;
