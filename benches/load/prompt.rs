//! Prompts for a load: all alike, or no two alike in a run or across runs.
//!
//! The words mean nothing; unlike a counter they differ enough that no semantic cache takes one for another.
//!
//! Invariants: the same seed and client give the same prompts.

use crate::Flags;

const WORDS: &str = "anchor barley candle dragon ember falcon garden harbor island jigsaw kettle lantern \
    marble needle orchard pepper quarry ribbon saddle timber umbrella velvet walnut yellow zephyr almond \
    bridge copper desert engine forest glacier hammer insect jacket kitchen ladder magnet nickel ocean \
    planet quilt rocket silver tunnel upland valley window yogurt zebra acorn basket canyon dinner eagle \
    feather granite honey igloo jungle kernel lemon meadow nectar olive puzzle quartz raven sugar tiger \
    urchin violin whistle yacht arrow beetle cactus domino elbow fossil goblet helmet iron jasmine koala \
    lobster mirror noodle otter parrot rabbit spider tomato unicorn vinegar wagon apron bottle cherry \
    dolphin emerald fiddle ginger hazel ivory jewel ketchup lizard mango napkin onion pillow";

pub struct Prompts {
    head: String,
    tail: String,
    same: Option<String>,
    words: Vec<&'static str>,
    n_words: usize,
    state: u64,
}

impl Prompts {
    pub fn new(flags: &Flags, client: usize) -> Self {
        let usage =
            if flags.stream { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
        let directive =
            flags.directive.as_ref().map(|settings| format!(" [[fake: {settings}]]")).unwrap_or_default();
        let head = format!(r#"{{"model":"{}"{usage},"messages":[{{"role":"user","content":""#, flags.model);
        // An odd multiplier keeps the clients' sequences apart.
        let state = flags.seed ^ (client as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let tail = format!(r#"{directive}"}}]}}"#);
        let mut prompts = Self {
            head,
            tail,
            same: None,
            words: WORDS.split_whitespace().collect(),
            n_words: flags.words,
            state,
        };
        if flags.same {
            prompts.state = flags.seed;
            prompts.same = Some(prompts.new_body());
        }
        prompts
    }

    /// The JSON body of the next request.
    pub fn next_body(&mut self) -> String {
        match &self.same {
            Some(body) => body.clone(),
            None => self.new_body(),
        }
    }

    fn new_body(&mut self) -> String {
        let mut body = self.head.clone();
        for nth in 0..self.n_words {
            if nth > 0 {
                body.push(' ');
            }
            let at = usize::try_from(self.random()).unwrap_or(nth) % self.words.len();
            body.push_str(self.words[at]);
        }
        body.push_str(&self.tail);
        body
    }

    /// xorshift64: quick, and good enough to draw words.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }
}
