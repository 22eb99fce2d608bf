//! Whatever a checkpoint's config and header say, it is opened or refused, and what is opened computes.

#![no_main]

use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use local_engine::backend::reference::Reference;
use local_engine::backend::{Backend, Chunk, Logits};
use local_engine::kv::block_pool::BlockPool;
use local_engine::weights::checkpoint::assemble;
use local_engine::weights::config::ModelConfig;
use local_engine::weights::safetensors::SafetensorsFile;
use local_engine::weights::store::TensorStore;

macro_rules! golden {
    ($name:literal) => {
        [
            include_bytes!(concat!("../../local-engine/tests/goldens/", $name, "/config.json")).as_slice(),
            include_bytes!(concat!("../../local-engine/tests/goldens/", $name, "/model.safetensors"))
                .as_slice(),
        ]
    };
}

/// Sound checkpoints: from nothing, a fuzzer hardly finds its way past a header's length.
const SOUND: [[&[u8]; 2]; 3] =
    [golden!("qwen2-awq-32"), golden!("qwen3-packed-asymmetric"), golden!("mistral-window")];

/// Places, and what is written there.
type Edits = Vec<(u16, u8)>;

fn edited(bytes: &[u8], edits: &Edits) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in edits {
        let at = usize::from(*at) % bytes.len();
        bytes[at] = *byte;
    }
    bytes
}

fn open_and_compute(config: &[u8], file: Vec<u8>) {
    let dir = Path::new("m");
    let Ok(config) = ModelConfig::parse(dir, config, Some(config)) else { return };
    let Ok(file) = SafetensorsFile::parse(&dir.join("model.safetensors"), Bytes::from(file)) else { return };
    let store = TensorStore::of_files(dir, vec![file]).expect("one file has no tensor twice");
    let Ok(weights) = assemble(&config, &store) else { return };
    let mut reference = Reference::new(weights).expect("the reference takes all weights");
    reference.alloc_kv(1).expect("one block is small");
    let block = BlockPool::new(1).take().expect("there is one");
    let chunk = Chunk { tokens: &[0], start: 0, blocks: &[block], n_logits: 1 };
    reference.forward(&[chunk], &mut Logits::default()).expect("the step is possible");
}

fuzz_target!(|input: Result<(u8, Edits, Edits), (Vec<u8>, Vec<u8>)>| {
    match input {
        Ok((kind, of_config, of_file)) => {
            let [config, file] = SOUND[usize::from(kind) % SOUND.len()];
            open_and_compute(&edited(config, &of_config), edited(file, &of_file));
        }
        Err((config, file)) => open_and_compute(&config, file),
    }
});
