//! What is printed: a line a layer while it goes on, then the errors of all, then the totals.

use std::time::{Duration, Instant};

use local_engine::quantise::checkpoint::Written;
use local_engine::quantise::{Divergence, LayerReport, ModuleReport};

pub(crate) struct Progress {
    begun: Instant,
    n_layers: usize,
    layers: Vec<LayerReport>,
}

impl Progress {
    pub(crate) fn new(n_layers: usize) -> Self {
        Self { begun: Instant::now(), n_layers, layers: Vec::with_capacity(n_layers) }
    }

    pub(crate) fn layer_done(&mut self, layer: &LayerReport) {
        self.layers.push(layer.clone());
        let (n_done, elapsed) = (self.layers.len(), self.begun.elapsed());
        let left = elapsed.mul_f64((self.n_layers - n_done) as f64 / n_done as f64);
        println!("layer {n_done} of {} done; {} gone, {} left", self.n_layers, short(elapsed), short(left));
    }

    pub(crate) fn layers(&self) -> &[LayerReport] {
        &self.layers
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// A row a layer and a column a module.
    pub(crate) fn print_table(&self) {
        let Some(first) = self.layers.first().filter(|first| first.modules[0].errors.is_some()) else {
            return;
        };
        println!("\noutput error in % on held-out tokens: rounded to nearest, then what was kept");
        let cells = first.modules.iter().map(|module| short_name(&module.name).to_owned());
        println!("layer{}", row(cells));
        for layer in &self.layers {
            println!("{:5}{}", layer.layer_idx, row(layer.modules.iter().map(errors)));
        }
    }
}

pub(crate) fn print_totals(written: &Written, divergence: Option<&Divergence>) {
    println!(
        "\n{} weights in {} files, {:.1} MB: {:.2} bits a weight, {:.2} in the quantised matrices",
        written.n_weights,
        written.n_files,
        written.n_bytes as f64 / 1e6,
        written.bits_per_weight,
        written.bits_per_quantised_weight,
    );
    if let Some(of) = divergence {
        println!(
            "over {} held-out positions: KL {:.4} nats, same likeliest token {:.1} %, perplexity {:.3} (float {:.3})",
            of.n_positions,
            of.mean_kl,
            100.0 * of.same_top_share,
            of.perplexity_quantised,
            of.perplexity_float,
        );
    }
}

fn row(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell:>14}")).collect()
}

fn errors(module: &ModuleReport) -> String {
    module.errors.map_or_else(String::new, |of| format!("{:.2} {:.2}", 100.0 * of.nearest, 100.0 * of.kept))
}

/// `q_proj` of `model.layers.0.self_attn.q_proj`.
fn short_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn short(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}
