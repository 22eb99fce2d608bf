//! The command line.
//!
//! Looks at no file.

use std::path::PathBuf;

use local_engine::quantise::GroupSize;

pub(crate) const HELP: &str = "\
Turns a float Hugging Face checkpoint into an AutoAWQ `gemm` one of four bits.

    quantize FLOAT_DIR OUT_DIR --calibration FILE [options]
    quantize FLOAT_DIR OUT_DIR --rtn [options]

FLOAT_DIR       config.json, safetensors and tokenizer.json of a Llama, Mistral, Qwen2 or Qwen3
OUT_DIR         a new or empty directory

--calibration FILE   text like that which the model will see. A .txt is cut into sequences; a .jsonl has
                     one text a line: a string, {\"text\": ...}, or {\"messages\": [...]} for the model's
                     chat template. Some hundred kilobytes are enough. With --rtn it may be left out, and
                     then no errors are measured
--rtn                round to nearest, without searching for scales and clipping
--group-size N       inputs that share a scale: 32, 64 or 128 (128)
--samples N          sequences to calibrate on, taken evenly from the file (64). Every eighth of them is
                     held out, and the errors that are printed are those on it
--length N           the greatest number of tokens of a sequence (512, or the model's context)
--threads N          (as many as there are processors)
--report FILE        the numbers as JSON
--help               this text

Embedding, head, norms and biases become f16. Files of the checkpoint are at most 2 GiB each.
";

pub(crate) enum Wish {
    Help,
    Quantise(Arguments),
}

pub(crate) struct Arguments {
    pub(crate) float_dir: PathBuf,
    pub(crate) out_dir: PathBuf,
    pub(crate) calibration: Option<PathBuf>,
    pub(crate) rtn: bool,
    pub(crate) group_size: GroupSize,
    pub(crate) n_samples: usize,
    pub(crate) n_length: usize,
    pub(crate) n_threads: usize,
    pub(crate) report: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
        let mut dirs = Vec::new();
        let mut found = Self {
            float_dir: PathBuf::new(),
            out_dir: PathBuf::new(),
            calibration: None,
            rtn: false,
            group_size: GroupSize::try_new(128).map_err(|error| error.to_string())?,
            n_samples: 64,
            n_length: 512,
            n_threads: std::thread::available_parallelism().map_or(1, usize::from),
            report: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
            match word.as_str() {
                "--help" | "-h" => return Ok(Wish::Help),
                "--rtn" => found.rtn = true,
                "--calibration" => found.calibration = Some(value()?.into()),
                "--report" => found.report = Some(value()?.into()),
                "--group-size" => {
                    let size = number(&word, &value()?, 1)?;
                    found.group_size = GroupSize::try_new(size).map_err(|error| error.to_string())?;
                }
                "--samples" => found.n_samples = number(&word, &value()?, 2)?,
                "--length" => found.n_length = number(&word, &value()?, 2)?,
                "--threads" => found.n_threads = number(&word, &value()?, 1)?,
                option if option.starts_with('-') => return Err(format!("there is no option `{option}`")),
                dir => dirs.push(PathBuf::from(dir)),
            }
        }
        let Ok([float_dir, out_dir]) = <[PathBuf; 2]>::try_from(dirs) else {
            return Err("two directories are needed: the float checkpoint's, and a new one".to_owned());
        };
        if found.calibration.is_none() && !found.rtn {
            return Err("give a text with `--calibration`, or round to nearest with `--rtn`".to_owned());
        }
        Ok(Wish::Quantise(Self { float_dir, out_dir, ..found }))
    }
}

fn number(option: &str, word: &str, least: usize) -> Result<usize, String> {
    match word.parse() {
        Ok(number) if number >= least => Ok(number),
        Ok(_) | Err(_) => Err(format!("`{option} {word}`: a whole number from {least} on is needed")),
    }
}
