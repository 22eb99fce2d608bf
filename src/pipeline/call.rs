//! One client request in flight: what was asked, by whom it claims to be, and the wishes in its headers.
//!
//! Reads headers as text; knows no HTTP library.

use std::fmt;
use std::time::{Duration, Instant};

use super::timeline::{Stage, Timeline};
use crate::cache::Control;
use crate::chat::{InvalidRequest, Request};
use crate::ledger::entry::Stages;
use crate::money::NanoUsd;
use crate::team::{CallId, TierName};

const MAX_TAGS: usize = 16;
const MAX_LABEL_CHARS: usize = 128;

/// A request in flight.
#[derive(Debug)]
pub struct Call {
    pub id: CallId,
    /// When it arrived, for durations.
    pub began: Instant,
    /// When it arrived, for the book.
    pub ts_ms: i64,
    pub request: Request,
    pub options: Options,
    /// What it is made for, where no client made it.
    errand: Option<Errand>,
    timeline: Timeline,
}

/// What the gateway makes a call of its own for, about an answer that was given to another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// The answer was a cached one, and a fresh one is wanted.
    Check(CallId),
    /// Whether it says the same as a cached one.
    Judge(CallId),
}

impl fmt::Display for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(call) => write!(f, "checks the cached answer given to call {call}"),
            Self::Judge(call) => write!(f, "judges the answer given to call {call}"),
        }
    }
}

impl Call {
    pub fn new(id: CallId, began: Instant, ts_ms: i64, request: Request, options: Options) -> Self {
        Self { id, began, ts_ms, request, options, errand: None, timeline: Timeline::default() }
    }

    /// The same question once more, on our own account: nobody's user, no tags, and the client's bound on money is not
    /// ours.
    pub(super) fn again(&self, id: CallId, began: Instant, ts_ms: i64) -> Self {
        let Options { cache_scope, min_tier, .. } = &self.options;
        let options =
            Options { cache_scope: cache_scope.clone(), min_tier: min_tier.clone(), ..Options::default() };
        let request = Request { user: None, ..self.request.clone() };
        Self { errand: Some(Errand::Check(self.id)), ..Self::new(id, began, ts_ms, request, options) }
    }

    /// The same call, on an errand of our own.
    pub(super) fn on(self, errand: Errand) -> Self {
        Self { errand: Some(errand), ..self }
    }

    pub(super) fn errand(&self) -> Option<Errand> {
        self.errand
    }

    /// Notes that a stage has ended.
    pub(super) fn mark(&self, stage: Stage) {
        self.timeline.mark(stage, self.began);
    }

    /// When the stages so far ended.
    pub(super) fn stages(&self) -> Stages {
        self.timeline.stages()
    }

    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Cut to a length that may be kept, whoever wrote it; nobody where it is empty.
    pub fn user(&self) -> Option<&str> {
        let named = self.options.user.as_deref().or(self.request.user.as_deref());
        named.map(cut).filter(|user| !user.is_empty())
    }
}

/// What the headers of a request ask for.
#[derive(Debug, Default)]
pub struct Options {
    /// The key as presented, without `Bearer `.
    pub key: Option<secrecy::SecretString>,
    pub control: Control,
    /// Keeps apart callers of one team that must not share answers.
    pub cache_scope: Option<String>,
    pub min_tier: Option<TierName>,
    pub max_cost: Option<NanoUsd>,
    pub tags: Vec<String>,
    pub user: Option<String>,
    /// The decision is wanted, not the answer.
    pub dry_run: bool,
    /// Headers that an A/B split goes by, with their values.
    pub kept: Vec<(Box<str>, Box<str>)>,
}

impl Options {
    /// Reads the headers that `get` looks up by lower-case name.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InvalidRequest> {
        let key = get("authorization").and_then(bearer).or_else(|| get("api-key"));
        let control = Control::parse(get("cache-control").unwrap_or(""), get("x-stiver-min-similarity"))
            .map_err(|error| InvalidRequest::whole(error.to_string()))?;
        let tags =
            ["x-stiver-tags", "x-litellm-tags"].into_iter().find_map(&get).map_or_else(Vec::new, read_tags);
        Ok(Self {
            key: key.map(secrecy::SecretString::from),
            control,
            cache_scope: get("x-stiver-cache-scope").map(label),
            min_tier: get("x-stiver-min-tier").map(TierName::from),
            max_cost: get("x-stiver-max-cost-usd").map(read_usd).transpose()?,
            tags,
            user: get("x-stiver-user").or_else(|| get("helicone-user-id")).map(label),
            dry_run: get("x-stiver-dry-run").is_some_and(|value| matches!(value.trim(), "1" | "true")),
            kept: Vec::new(),
        })
    }

    /// Keeps the headers of these lower-case names beside the wishes.
    pub fn keep<'n, 'a>(
        mut self,
        names: impl Iterator<Item = &'n str>,
        get: impl Fn(&str) -> Option<&'a str>,
    ) -> Self {
        self.kept.extend(names.filter_map(|name| Some((name.into(), get(name)?.trim().into()))));
        self
    }

    /// The value of a header that was kept.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.kept.iter().find(|(known, _)| known.as_ref() == name).map(|(_, value)| value.as_ref())
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn label(value: &str) -> String {
    cut(value).to_owned()
}

fn cut(value: &str) -> &str {
    let value = value.trim();
    value.char_indices().nth(MAX_LABEL_CHARS).map_or(value, |(end, _)| &value[..end])
}

fn read_tags(value: &str) -> Vec<String> {
    value.split(',').map(label).filter(|tag| !tag.is_empty()).take(MAX_TAGS).collect()
}

fn read_usd(value: &str) -> Result<NanoUsd, InvalidRequest> {
    NanoUsd::from_usd(value.trim()).filter(|usd| *usd >= NanoUsd::ZERO).ok_or_else(|| {
        InvalidRequest::whole(format!(
            "header `x-stiver-max-cost-usd` is `{value}`; it must be dollars such as 0.05"
        ))
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(pairs: &[(&str, &'static str)]) -> Result<Options, InvalidRequest> {
        Options::read(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn wishes_are_read_from_the_headers() {
        let options = read(&[
            ("authorization", "bearer  sk-1"),
            ("x-stiver-tags", "a, b,,c"),
            ("x-stiver-max-cost-usd", "0.05"),
            ("x-stiver-dry-run", "true"),
            ("helicone-user-id", "u1"),
        ])
        .unwrap();

        assert_eq!(options.key.unwrap().expose_secret(), "sk-1");
        assert_eq!(options.tags, ["a", "b", "c"]);
        assert_eq!(options.max_cost, Some(NanoUsd::new(50_000_000)));
        assert_eq!(options.user.as_deref(), Some("u1"));
        assert!(options.dry_run);
    }

    #[test]
    fn headers_are_kept_only_where_somebody_asks_for_them() {
        let pairs = [("x-session", " s1 "), ("x-other", "o")];
        let get = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);

        let options = Options::default().keep(["x-session", "x-absent"].into_iter(), get);

        assert_eq!((options.header("x-session"), options.header("x-absent")), (Some("s1"), None));
        assert_eq!(options.header("x-other"), None);
    }

    #[test]
    fn labels_are_bounded_and_bad_money_is_refused_by_name() {
        let long: &'static str = Box::leak("x".repeat(1_000).into_boxed_str());
        let options = read(&[("x-stiver-user", long)]).unwrap();
        assert_eq!(options.user.unwrap().len(), MAX_LABEL_CHARS);

        for bad in ["-1", "NaN", "five"] {
            assert!(
                read(&[("x-stiver-max-cost-usd", bad)]).unwrap_err().message.contains("max-cost"),
                "{bad}"
            );
        }
    }
}
