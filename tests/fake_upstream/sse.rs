//! Turns a body into steps: frames events, spaces and cuts them, and works the faults in.
//!
//! Does not know what events say, beyond how many tokens they carry.
//!
//! Invariants: without travel settings and faults a body is one write an event; a fault strikes
//! after as many deltas as it says, or at the end if there are fewer.

use std::time::Duration;

use bytes::Bytes;

use super::behaviour::{Behaviour, Fault, Travel};
use super::book::Ending;
use super::fault;
use super::player::{Part, Step};

/// One event of a stream, before framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub json: String,
    pub n_tokens: u64,
}

/// A stream of events as steps, `[DONE]` included.
pub fn streamed(events: Vec<Event>, behaviour: &Behaviour) -> Part {
    let mut track = Track::new(&behaviour.travel);
    track.wait_ms(behaviour.travel.first_byte_ms);
    if behaviour.fault == Fault::HangAfterHeaders {
        track.stop(Step::Hang);
        return track.part(Ending::CutShort, None);
    }
    let struck_at = striking(&behaviour.fault).unwrap_or(usize::MAX);
    let mut n_deltas = 0;
    for event in events {
        let is_delta = event.n_tokens > 0;
        // Positions count deltas, so a fault at 0 strikes behind the role and before the first delta.
        if is_delta && n_deltas == struck_at && strike(&mut track, behaviour, &event) {
            return track.part(Ending::CutShort, None);
        }
        track.event(&event, is_delta.then_some(n_deltas));
        n_deltas += usize::from(is_delta);
    }
    if struck_at != usize::MAX && struck_at >= n_deltas {
        let nothing = Event { json: "{}".to_owned(), n_tokens: 0 };
        if strike(&mut track, behaviour, &nothing) {
            return track.part(Ending::CutShort, None);
        }
    }
    if behaviour.fault != Fault::NoDone {
        track.frame("[DONE]", 0);
    }
    track.part(Ending::Answered, None)
}

/// A body in one piece as steps, cut where the behaviour says so.
pub fn whole(body: &str, n_tokens: u64, behaviour: &Behaviour) -> Part {
    let n_bytes = Some(body.len() as u64);
    let mut track = Track::new(&behaviour.travel);
    track.wait_ms(behaviour.travel.first_byte_ms);
    let half = (0..=body.len() / 2).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
    let ends_early = matches!(behaviour.fault, Fault::ResetAt(_) | Fault::Truncated | Fault::EndAt(_));
    if behaviour.fault == Fault::HangAfterHeaders {
        track.stop(Step::Hang);
    } else if ends_early {
        track.write(&body[..half], n_tokens);
        let resets = matches!(behaviour.fault, Fault::ResetAt(_));
        track.stop(if resets { Step::Reset } else { Step::Close });
    } else if behaviour.travel.pause_at.is_some() {
        track.write(&body[..half], n_tokens);
        track.stop(Step::Pause);
        track.write(&body[half..], 0);
        return track.part(Ending::Answered, n_bytes);
    } else {
        track.write(body, n_tokens);
        return track.part(Ending::Answered, n_bytes);
    }
    track.part(Ending::CutShort, n_bytes)
}

/// After how many deltas a fault strikes a stream.
fn striking(fault: &Fault) -> Option<usize> {
    match fault {
        Fault::ResetAt(at) | Fault::EndAt(at) | Fault::ErrorAt(at) => Some(*at),
        Fault::BrokenJsonAt(at) | Fault::GarbageAt(at) => Some(*at),
        // Half of an answer of usual length.
        Fault::Truncated => Some(2),
        Fault::None | Fault::Status(_) | Fault::HangBeforeHeaders | Fault::HangAfterHeaders => None,
        Fault::NoDone | Fault::Html | Fault::Empty => None,
    }
}

/// Carries a fault out where it strikes, and says whether the stream is over. A garbled event stands
/// before the one it garbles, so that a client that skips it still gets the whole answer.
fn strike(track: &mut Track<'_>, behaviour: &Behaviour, event: &Event) -> bool {
    match behaviour.fault {
        Fault::ResetAt(_) => track.stop(Step::Reset),
        Fault::EndAt(_) => track.stop(Step::Flush),
        Fault::Truncated => {
            track.write(&format!("data: {}", &event.json[..event.json.len() / 2]), 0);
            track.stop(Step::Close);
        }
        Fault::ErrorAt(_) => {
            track.frame(&fault::mid_stream_error(behaviour.message.as_deref()).to_string(), 0)
        }
        Fault::BrokenJsonAt(_) => track.frame(&event.json[..event.json.len() - 1], 0),
        Fault::GarbageAt(_) => track.write("\u{1}this is no event\n\n", 0),
        Fault::None | Fault::Status(_) | Fault::HangBeforeHeaders | Fault::HangAfterHeaders => {}
        Fault::NoDone | Fault::Html | Fault::Empty => {}
    }
    !matches!(behaviour.fault, Fault::BrokenJsonAt(_) | Fault::GarbageAt(_))
}

/// Steps in the making.
struct Track<'a> {
    travel: &'a Travel,
    steps: Vec<Step>,
    /// Bytes that wait for a full piece, and the tokens that end within them.
    held: Vec<u8>,
    n_tokens_held: u64,
}

impl<'a> Track<'a> {
    fn new(travel: &'a Travel) -> Self {
        Self { travel, steps: Vec::new(), held: Vec::new(), n_tokens_held: 0 }
    }

    fn event(&mut self, event: &Event, delta_at: Option<usize>) {
        if let Some(at) = delta_at {
            if at > 0 {
                self.wait_ms(self.travel.interval_ms);
            }
            if self.travel.pause_at == Some(at) {
                self.stop(Step::Pause);
            }
            if self.travel.comments {
                self.write(&format!(": ping{0}{0}", self.line_end()), 0);
            }
        }
        self.frame(&event.json, event.n_tokens);
    }

    fn frame(&mut self, data: &str, n_tokens: u64) {
        let end = self.line_end();
        let framed = match data.split_once(',').filter(|_| self.travel.multi_data) {
            // The first comma follows the id, so a line break there is white space to JSON.
            Some((first, rest)) => format!("data: {first},{end}data: {rest}{end}{end}"),
            None => format!("data: {data}{end}{end}"),
        };
        self.write(&framed, n_tokens);
    }

    fn line_end(&self) -> &'static str {
        if self.travel.crlf { "\r\n" } else { "\n" }
    }

    fn write(&mut self, text: &str, n_tokens: u64) {
        let trickles = self.travel.trickle_ms > 0;
        let Some(n_piece) = self.travel.split_bytes.or(trickles.then_some(1)) else {
            self.steps.push(Step::Write { bytes: Bytes::copy_from_slice(text.as_bytes()), n_tokens });
            return;
        };
        self.held.extend_from_slice(text.as_bytes());
        self.n_tokens_held += n_tokens;
        while self.held.len() > n_piece {
            let rest = self.held.split_off(n_piece);
            let bytes = Bytes::from(std::mem::replace(&mut self.held, rest));
            self.steps.push(Step::Write { bytes, n_tokens: 0 });
            let wait = Step::Wait(Duration::from_millis(self.travel.trickle_ms));
            self.steps.push(if trickles { wait } else { Step::Flush });
        }
    }

    fn let_go(&mut self) {
        let n_tokens = std::mem::take(&mut self.n_tokens_held);
        if !self.held.is_empty() {
            let bytes = Bytes::from(std::mem::take(&mut self.held));
            self.steps.push(Step::Write { bytes, n_tokens });
        }
    }

    fn wait_ms(&mut self, wait_ms: u64) {
        if wait_ms > 0 {
            self.let_go();
            self.steps.push(Step::Wait(Duration::from_millis(wait_ms)));
        }
    }

    /// Lets what was written leave, then takes `step`.
    fn stop(&mut self, step: Step) {
        self.let_go();
        self.steps.push(Step::Flush);
        self.steps.push(step);
    }

    fn part(mut self, ending: Ending, n_bytes: Option<u64>) -> Part {
        self.let_go();
        Part { steps: self.steps, ending, n_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{Script, Scripts};
    use super::*;

    fn played(settings: &str) -> (String, Part) {
        let mut scripts = Scripts::default();
        scripts.add(Script::always(settings)).unwrap();
        let behaviour = scripts.behaviour("m", "", "").unwrap();
        let event = |n: u64| Event { json: format!("{{\"id\":{n},\"n\":{n}}}"), n_tokens: u64::from(n > 0) };
        let part = streamed((0..4).map(event).collect(), &behaviour);
        let text = part.steps.iter().filter_map(|step| match step {
            Step::Write { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            Step::Flush | Step::Wait(_) | Step::Pause | Step::Hang | Step::Reset | Step::Close => None,
        });
        (text.collect(), part)
    }

    fn n_tokens(part: &Part) -> u64 {
        let tokens = part.steps.iter().filter_map(|step| match step {
            Step::Write { n_tokens, .. } => Some(*n_tokens),
            Step::Flush | Step::Wait(_) | Step::Pause | Step::Hang | Step::Reset | Step::Close => None,
        });
        tokens.sum()
    }

    #[test]
    fn splitting_changes_neither_bytes_nor_tokens() {
        let (plain, plain_part) = played("");
        for settings in ["split=1", "split=7", "split=1000", "trickle_ms=1"] {
            let (split, part) = played(settings);
            assert_eq!((split, n_tokens(&part)), (plain.clone(), n_tokens(&plain_part)), "{settings}");
        }
    }

    #[test]
    fn a_fault_strikes_after_as_many_deltas_as_it_says() {
        for (at, n_expected) in [(0, 0), (1, 1), (3, 3), (9, 3)] {
            let (_, part) = played(&format!("cut={at}"));
            assert_eq!((n_tokens(&part), part.steps.last()), (n_expected, Some(&Step::Reset)), "cut={at}");
        }
    }

    #[test]
    fn an_event_over_two_data_lines_is_the_same_json() {
        let (text, _) = played("multi_data crlf");

        assert!(text.starts_with("data: {\"id\":0,\r\ndata: \"n\":0}\r\n\r\n"), "{text}");
    }
}
