"""Times the semantic cache's two models through ONNX Runtime, by the clock and by the processor's own count.

Judges nothing. On a machine that others use, the clock says what they took as well; the processor's count
of one thread does not, save for what a busy neighbour takes from the same core.

    python speed_cache_models.py EMBEDDER_DIR GUARD_DIR
"""

import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime

import guard_model

N_CALLS = 300


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timed(run, ids, kinds):
    feed = {"input_ids": np.array([ids]), "token_type_ids": np.array([kinds]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
    clock, processor = [], []
    for _ in range(N_CALLS):
        before = time.perf_counter(), time.process_time()
        run.run(None, feed)
        clock.append((time.perf_counter() - before[0]) * 1e3)
        processor.append((time.process_time() - before[1]) * 1e3)
    return {name: [round(float(np.percentile(times, q)), 2) for q in (5, 50, 99)] for name, times in (("clock", clock), ("processor", processor))}


def words(n, start):
    return [2000 + start + i for i in range(n)]


def main(embedder_dir, guard_dir):
    for threads in (1, 2):
        run = session(embedder_dir / "model.onnx", threads)
        for n in (16, 32, 64):
            print(json.dumps({"model": "embedder", "threads": threads, "tokens": n} | timed(run, [101, *words(n - 2, 0), 102], [0] * n)), flush=True)
        run = session(guard_dir / "model.onnx", threads)
        for n in (12, 32, 64):
            ids, kinds = guard_model.inputs(words(n, 0), words(n, n // 2))
            print(json.dumps({"model": "guard", "threads": threads, "tokens each": n} | timed(run, ids, kinds)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python speed_cache_models.py EMBEDDER_DIR GUARD_DIR")
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
