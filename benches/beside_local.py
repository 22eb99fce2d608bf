#!/usr/bin/env python3
"""What a busy local model does to calls that only pass through the gateway.

    cargo build --release --bin stiver --example fake-upstream --example load
    benches/beside_local.py [--model-dir DIR] [--threads 1,2] [--streams 4] [--seconds 4] [--rounds 5]

One gateway has a fake upstream and a local model. The same load is sent to the fake upstream through it, in turns with
the model idle and with it writing several endless answers at once. Prints a Markdown table: medians of the rounds.

Invariant: while the model is said to be busy, all of its streams are open and giving tokens.
"""

import argparse
import json
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target" / "release"
CONFIG = """
prices_file = "{root}/config/prices.toml"
[server]
listen = "127.0.0.1:{port}"
flood = {{ per_second = 0 }}
[ledger]
path = "{data}/ledger.sqlite"
journal_dir = "{data}/journal"
[cache]
exact = {{ enabled = false }}
semantic = {{ enabled = false, data_dir = "{data}/semantic" }}
[upstreams.fake]
dialect = "openai"
base_url = "{fake}"
api_key = "sk-fake"
model = "gpt-4o-mini"
max_output_tokens = 1_000
[routes.gpt-4o-mini]
upstreams = ["fake"]
[upstreams.house]
dialect = "local"
model_dir = "{model_dir}"
cpu = {{ threads = {threads} }}
[routes.house]
upstreams = ["house"]
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-dir", default=ROOT / "router-models" / "support-assistant")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


class Streams:
    """Endless answers of the local model, asked for again as they end."""

    def __init__(self, url, n):
        self.url, self.is_over, self.n_chunks = url, threading.Event(), 0
        self.threads = [threading.Thread(target=self.run, args=(nth,), daemon=True) for nth in range(n)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def run(self, nth):
        while not self.is_over.is_set():
            body = {
                "model": "house",
                "messages": [{"role": "user", "content": f"stream {nth} at {time.monotonic()}"}],
                "stream": True,
                "max_tokens": 800,
                "ignore_eos": True,
            }
            request = urllib.request.Request(
                f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request) as answer:
                for line in answer:
                    self.n_chunks += line.startswith(b"data")
                    if self.is_over.is_set():
                        return


def load(url, seconds):
    command = [RELEASE / "examples" / "load", "--url", f"{url}/v1", "--clients", "1", "--seconds", str(seconds), "--json"]
    return json.loads(subprocess.run([str(part) for part in command], capture_output=True, check=True).stdout)


def wait_until_ready(url):
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/healthz").read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the gateway does not start")


def measure(args, threads, fake, data):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = dict(root=ROOT, port=port, data=data, fake=fake, model_dir=args.model_dir, threads=threads)
    config = pathlib.Path(data) / "stiver.toml"
    config.write_text(CONFIG.format(**values))
    url = f"http://127.0.0.1:{port}"
    gateway = subprocess.Popen(
        [str(RELEASE / "stiver"), "serve", "--config", str(config)], cwd=data, stdout=subprocess.DEVNULL
    )
    try:
        wait_until_ready(url)
        idle, busy, rates = [], [], []
        for _ in range(args.rounds):
            idle.append(load(url, args.seconds))
            with Streams(url, args.streams) as streams:
                before, began = streams.n_chunks, time.monotonic()
                busy.append(load(url, args.seconds))
                rates.append((streams.n_chunks - before) / (time.monotonic() - began))
        return idle, busy, statistics.median(rates)
    finally:
        gateway.terminate()
        gateway.wait()


def main():
    args = arguments()
    fake = subprocess.Popen(
        [str(RELEASE / "examples" / "fake-upstream"), "--port", "0", "--keep", "0", "--prebuilt"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        base_url = fake.stdout.readline().strip()
        print("| engine threads | model | p50, ms | p99, ms | req/s | its own tokens a second |")
        print("|---:|---|---:|---:|---:|---:|")
        for threads in args.threads.split(","):
            with tempfile.TemporaryDirectory() as data:
                idle, busy, tokens = measure(args, threads, base_url, data)
            for name, runs, own in (("idle", idle, ""), ("busy", busy, f"{tokens:.0f}")):
                p50, p99 = (statistics.median(run["total_us"][key] for run in runs) / 1000 for key in ("p50", "p99"))
                rate = statistics.median(run["per_second"] for run in runs)
                print(f"| {threads} | {name} | {p50:.2f} | {p99:.2f} | {rate:.0f} | {own} |")
    finally:
        fake.terminate()


if __name__ == "__main__":
    main()
