//! Turns a float Hugging Face checkpoint into an AutoAWQ `gemm` one of four bits.
//!
//! Downloads nothing and needs no GPU. The numbers are computed by `local_engine::quantise`.

#![expect(clippy::print_stdout, reason = "a command's results belong on standard output")]

mod arguments;
mod calibration;
mod progress;

use std::process::ExitCode;

use local_engine::quantise::checkpoint::{Source, check_output, write};
use local_engine::quantise::{Method, Options, Quantiser};
use serde_json::json;

use self::arguments::{Arguments, HELP, Wish};
use self::progress::Progress;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let outcome = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Wish::Help) => {
            print!("{HELP}");
            Ok(())
        }
        Ok(Wish::Quantise(arguments)) => quantise(&arguments),
        Err(error) => Err(format!("{error}\n`--help` lists what there is").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn quantise(arguments: &Arguments) -> Result<(), Error> {
    let source = Source::open(&arguments.float_dir)?;
    check_output(&arguments.out_dir)?;
    let texts = calibration::read(arguments, &source.weights.hparams)?;
    if let Some(texts) = &texts {
        let n_tokens: usize = texts.iter().map(Vec::len).sum();
        println!("calibrating on {} sequences, {n_tokens} tokens", texts.len());
    }
    let method = if arguments.rtn { Method::Nearest } else { Method::ActivationAware };
    let options = Options { group_size: arguments.group_size, method, n_threads: arguments.n_threads };
    let mut quantiser = Quantiser::new(&source.weights, options, texts.as_deref())?;
    let mut progress = Progress::new(source.weights.hparams.n_layers);
    let written =
        write(&source, &arguments.out_dir, &mut quantiser, &mut |layer| progress.layer_done(layer))?;
    let divergence = quantiser.divergence();
    progress.print_table();
    progress::print_totals(&written, divergence.as_ref());
    if let Some(path) = &arguments.report {
        let report = json!({
            "method": if arguments.rtn { "nearest" } else { "activation-aware" },
            "group_size": arguments.group_size.get(),
            "seconds": progress.seconds(),
            "written": written,
            "divergence": divergence,
            "layers": progress.layers(),
        });
        std::fs::write(path, format!("{report:#}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
