//! What is kept of a call's text, for a team whose operator has it kept.
//!
//! Stores nothing; the ledger does, with the call's row.
//!
//! Invariant: for every other team nothing is copied and nothing is listened to.

use super::admit::Admitted;
use super::call::Call;
use crate::chat::assemble::transcript::cut;
use crate::chat::{Endpoint, Request, Transcript};
use crate::ledger::text::CallText;

/// The side of the caller; what was answered is added when that is known.
pub(super) fn asked(admitted: &Admitted, call: &Call) -> Option<CallText> {
    let keep = admitted.caller.team.text?;
    let mut request = said_by_caller(&call.request, keep.max_bytes);
    let request_is_cut = cut(&mut request, keep.max_bytes);
    let delete_after_ms = keep.delete_after_ms(call.ts_ms);
    Some(CallText { request, request_is_cut, delete_after_ms, ..CallText::default() })
}

/// The text of a call that an earlier answer was given to.
pub(super) fn replayed(admitted: &Admitted, call: &Call, body: &[u8]) -> Option<CallText> {
    let mut text = asked(admitted, call)?;
    let mut transcript = transcript(admitted)?;
    transcript.push_whole(body);
    let said = transcript.said();
    (text.answer, text.answer_is_cut) = (said.json, said.is_cut);
    Some(text)
}

/// Who listens to the answer.
pub(super) fn transcript(admitted: &Admitted) -> Option<Transcript> {
    Some(Transcript::new(admitted.caller.team.text?.max_bytes))
}

/// The messages, prompts or inputs as they came, or a little more than is kept of them.
fn said_by_caller(request: &Request, max_bytes: usize) -> String {
    let name = match request.endpoint {
        Endpoint::Chat => "messages",
        Endpoint::Completions => "prompt",
        Endpoint::Embeddings => "input",
    };
    let json = request.fields.get(name).map_or("", |raw| raw.get());
    json[..json.ceil_char_boundary(max_bytes + 1)].to_owned()
}
