//! What one call is to experience: how it is answered, how the answer travels, and what goes wrong.
//!
//! Reads settings; does not know where they came from, nor how they are carried out.
//!
//! Invariants: an unknown key or an unreadable value is an error that names it; later settings win.

/// Where a streamed answer reports its usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UsagePlace {
    #[default]
    EmptyChoices,
    Finish,
    LastContent,
    Every,
    Absent,
}

/// What goes wrong. Positions count deltas written before it happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    Status(u16),
    HangBeforeHeaders,
    HangAfterHeaders,
    ResetAt(usize),
    EndAt(usize),
    NoDone,
    ErrorAt(usize),
    BrokenJsonAt(usize),
    GarbageAt(usize),
    Html,
    Empty,
    Truncated,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub prompt: Option<u64>,
    pub completion: Option<u64>,
    pub cached: u64,
    pub cache_write: u64,
    pub audio_in: u64,
    pub audio_out: u64,
}

/// How the bytes of an answer are spaced and cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Travel {
    pub headers_ms: u64,
    pub first_byte_ms: u64,
    pub interval_ms: u64,
    pub split_bytes: Option<usize>,
    pub trickle_ms: u64,
    pub crlf: bool,
    pub comments: bool,
    pub multi_data: bool,
    pub pause_at: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    pub text: Option<String>,
    pub n_chunks: Option<usize>,
    pub n_tool_calls: usize,
    pub n_reasoning: usize,
    pub refusal: bool,
    pub unknown: bool,
    pub finish: Option<String>,
    pub usage: UsagePlace,
    pub counts: Counts,
    pub travel: Travel,
    pub fault: Fault,
    pub fail_first: Option<u32>,
    pub message: Option<String>,
    pub headers: Vec<(String, String)>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            text: None,
            n_chunks: None,
            n_tool_calls: 1,
            n_reasoning: 0,
            refusal: false,
            unknown: false,
            finish: None,
            usage: UsagePlace::default(),
            counts: Counts::default(),
            travel: Travel::default(),
            fault: Fault::default(),
            fail_first: None,
            message: None,
            headers: Vec::new(),
        }
    }
}

impl Behaviour {
    /// Applies one setting.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let known = self.set_answer(key, value)?
            || self.set_counts(key, value)?
            || self.set_travel(key, value)?
            || self.set_fault(key, value)?
            || self.set_headers(key, value)?;
        if known { Ok(()) } else { Err(format!("fake upstream: no setting is called `{key}`")) }
    }

    /// Whether a body in one piece needs no player.
    pub fn travels_plainly(&self) -> bool {
        let plain = Travel { headers_ms: self.travel.headers_ms, ..Travel::default() };
        let spaced_events_only =
            Travel { interval_ms: 0, crlf: false, comments: false, multi_data: false, ..self.travel.clone() };
        let whole = matches!(
            self.fault,
            Fault::None | Fault::NoDone | Fault::ErrorAt(_) | Fault::BrokenJsonAt(_) | Fault::GarbageAt(_)
        );
        whole && spaced_events_only == plain
    }

    fn set_answer(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "text" => self.text = Some(value.to_owned()),
            "chunks" => self.n_chunks = Some(number(key, value)?),
            "parallel" => self.n_tool_calls = number(key, value)?,
            "tools" => self.n_tool_calls = usize::from(yes(key, value)?),
            "reasoning" => self.n_reasoning = number(key, value)?,
            "refusal" => self.refusal = yes(key, value)?,
            "unknown" => self.unknown = yes(key, value)?,
            "finish" => self.finish = Some(value.to_owned()),
            "message" => self.message = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_counts(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "usage" => {
                self.usage = match value {
                    "empty-choices" => UsagePlace::EmptyChoices,
                    "finish" => UsagePlace::Finish,
                    "last-content" => UsagePlace::LastContent,
                    "every" => UsagePlace::Every,
                    "absent" => UsagePlace::Absent,
                    _ => return Err(unreadable(key, value)),
                }
            }
            "prompt" => self.counts.prompt = Some(number(key, value)?),
            "completion" => self.counts.completion = Some(number(key, value)?),
            "cached" => self.counts.cached = number(key, value)?,
            "cache_write" => self.counts.cache_write = number(key, value)?,
            "audio_in" => self.counts.audio_in = number(key, value)?,
            "audio_out" => self.counts.audio_out = number(key, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_travel(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let travel = &mut self.travel;
        match key {
            "headers_ms" => travel.headers_ms = number(key, value)?,
            "first_byte_ms" => travel.first_byte_ms = number(key, value)?,
            "interval_ms" => travel.interval_ms = number(key, value)?,
            "split" => travel.split_bytes = Some(number::<usize>(key, value)?.max(1)),
            "trickle_ms" => travel.trickle_ms = number(key, value)?,
            "crlf" => travel.crlf = yes(key, value)?,
            "comments" => travel.comments = yes(key, value)?,
            "multi_data" => travel.multi_data = yes(key, value)?,
            "pause_at" => travel.pause_at = Some(number(key, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_fault(&mut self, key: &str, value: &str) -> Result<bool, String> {
        self.fault = match key {
            "ok" => Fault::None,
            "status" => match number(key, value)? {
                200 => Fault::None,
                status => Fault::Status(status),
            },
            "hang" if value == "headers" => Fault::HangBeforeHeaders,
            "hang" if value == "body" => Fault::HangAfterHeaders,
            "hang" => return Err(unreadable(key, value)),
            "cut" => Fault::ResetAt(number(key, value)?),
            "end_at" => Fault::EndAt(number(key, value)?),
            "no_done" => Fault::NoDone,
            "error_at" => Fault::ErrorAt(number(key, value)?),
            "broken_json_at" => Fault::BrokenJsonAt(number(key, value)?),
            "garbage_at" => Fault::GarbageAt(number(key, value)?),
            "html" => Fault::Html,
            "empty" => Fault::Empty,
            "truncated" => Fault::Truncated,
            "fail_first" => {
                self.fail_first = Some(number(key, value)?);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        Ok(true)
    }

    fn set_headers(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let header = match key {
            "retry_after" => ("retry-after", value),
            "retry_after_ms" => ("retry-after-ms", value),
            "should_retry" => ("x-should-retry", value),
            "header" => value.split_once(':').ok_or_else(|| unreadable(key, value))?,
            _ => return Ok(false),
        };
        self.headers.push((header.0.to_owned(), header.1.to_owned()));
        Ok(true)
    }
}

fn number<N: std::str::FromStr>(key: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| unreadable(key, value))
}

/// A flag is set by its bare key; `off` and `false` unset it.
fn yes(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(unreadable(key, value)),
    }
}

fn unreadable(key: &str, value: &str) -> String {
    format!("fake upstream: setting `{key}` cannot be `{value}`")
}
