//! What to measure, from the command line.

use std::path::PathBuf;

use local_engine::model::Hparams;

const HELP: &str = "\
cargo run --release -p local-engine --example bench -- [OPTIONS]

  --shapes LIST     of 0.5b, 1.5b, 7b, separated by commas (default 0.5b)
  --threads N       threads to compute with (default: all cores)
  --no-serving      leave out the Poisson load
  --rate R          requests a second of the Poisson load (default 1.5 for 0.5b, 0.3 for the others)
  --model DIR       measure speculation with this checkpoint
  --draft DIR       and this smaller one as its draft
  --prompts FILE    questions to ask it, one a line
  --json FILE       write all numbers there, too
";

/// A model's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Half,
    OneAndHalf,
    Seven,
}

impl Shape {
    const ALL: [Self; 3] = [Self::Half, Self::OneAndHalf, Self::Seven];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Half => "0.5b",
            Self::OneAndHalf => "1.5b",
            Self::Seven => "7b",
        }
    }

    pub(crate) fn hparams(self) -> Hparams {
        match self {
            Self::Half => Hparams::qwen2_0_5b(),
            Self::OneAndHalf => Hparams::qwen2_1_5b(),
            Self::Seven => Hparams::qwen2_7b(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) shapes: Vec<Shape>,
    pub(crate) threads: usize,
    pub(crate) serving: bool,
    pub(crate) rate: Option<f64>,
    pub(crate) model_dir: Option<PathBuf>,
    pub(crate) draft_dir: Option<PathBuf>,
    pub(crate) prompts: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn read() -> Self {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut read = Self {
            shapes: vec![Shape::Half],
            threads: n_cores,
            serving: true,
            rate: None,
            model_dir: None,
            draft_dir: None,
            prompts: None,
            json: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| leave(&format!("{word} needs a value")));
            match word.as_str() {
                "--shapes" => read.shapes = value().split(',').map(shape).collect(),
                "--threads" => read.threads = number(&value()),
                "--no-serving" => read.serving = false,
                "--rate" => read.rate = Some(number(&value())),
                "--model" => read.model_dir = Some(value().into()),
                "--draft" => read.draft_dir = Some(value().into()),
                "--prompts" => read.prompts = Some(value().into()),
                "--json" => read.json = Some(value().into()),
                "--help" => leave(""),
                _ => leave(&format!("{word} is not an option")),
            }
        }
        read
    }
}

fn shape(name: &str) -> Shape {
    let known = Shape::ALL.into_iter().find(|shape| shape.name() == name);
    known.unwrap_or_else(|| leave(&format!("{name} is not a shape")))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| leave(&format!("{text} is not a number")))
}

fn leave(why: &str) -> ! {
    println!("{why}\n{HELP}");
    std::process::exit(i32::from(!why.is_empty()))
}
