#!/usr/bin/env python3
"""How long a lookup by meaning takes in a gateway that holds many entries and serves others meanwhile.

    cargo build --release --bin stiver --example fake-upstream
    benches/semantic_lookup.py                          # 100,000 entries, three rounds of each load
    benches/semantic_lookup.py --loads 10:500 --rounds 1 --without-guard
    chrt -r 10 benches/semantic_lookup.py               # gateway, upstream and load before all else

A load is `QUESTIONS:HITS`, both a second: new questions of 64 tokens, each embedded, looked up and, because something is
always near, read by the trained guard together with the nearest; beside them equal questions, which the exact cache
answers.

The entries are made up around a few hundred real embeddings: the gateway is asked as many questions first, and what it
wrote to its semantic log is multiplied there, with noise in the vectors and some words replaced. Then it starts anew.

A lookup's time is the gateway's own, as the row of the call has it: from `admitted_us` to `looked_up_us`. Prints a
Markdown table and then one JSON object to standard output, its progress to standard error. It builds nothing and
judges nothing.

Invariants: arrivals of questions are at random and do not wait for answers; what the warm-up asked is left out; a figure
is the median of the rounds' figures.
"""

import argparse
import array
import contextlib
import datetime
import json
import math
import multiprocessing
import operator
import os
import pathlib
import random
import re
import shlex
import socket
import sqlite3
import statistics
import string
import struct
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib

from overhead import ROOT, fake_upstream, free_port, machine, median_of, running, say, wait_until_ready

MAGIC = b"stvsem1\n"
UPSERT = 4
# Tag, id, scope; then when it expires, its group, its worth, the number of dimensions.
HEAD = struct.Struct("<B32s32sqQqI")
N_WORDS = 62  # with the two marks around them 64 tokens
N_REPLACED = 10
COSINE_TO_CENTRE = 0.9
N_CENTRES = 300
N_NOISES = 1_000
N_ASKERS = 24
N_HIT_CLIENTS = 4
ANSWER_BYTES = 1_000
HEADERS = "content-type: application/json\r\nauthorization: Bearer load-test\r\n"
CONFIG = """
prices_file = "{root}/config/prices.toml"
[server]
listen = "{listen}"
flood = {{ per_second = 0 }}
[ledger]
path = "{data}/ledger.sqlite"
journal_dir = "{data}/journal"
[upstreams.fake]
dialect = "openai"
base_url = "{fake}"
api_key = "sk-fake"
model = "gpt-4o-mini"
max_output_tokens = 1_000
[routes.gpt-4o-mini]
upstreams = ["fake"]
[cache.semantic]
policy = "proven"
max_entries = {max_entries}
max_bytes = 4_294_967_296
data_dir = "{data}/semantic"
model_dir = "{root}/router-models/embedder"
guard_dir = "{guard}"
"""


def arguments():
    release = ROOT / "target" / "release"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gateway", type=pathlib.Path, default=release / "stiver")
    parser.add_argument("--fake", type=pathlib.Path, default=release / "examples" / "fake-upstream")
    parser.add_argument("--answer", default="chunks=16", help="settings for the fake upstream")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--loads", default="10:500,40:500,40:2000", help="QUESTIONS:HITS a second; several, with commas")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--warmup", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-guard", action="store_true", help="no trained guard, to see what it takes")
    parser.add_argument("--json", type=pathlib.Path, help="write the JSON object to this file, too")
    return parser.parse_args()


class Texts:
    """Questions of words of the embedder's vocabulary, so that each is one token."""

    def __init__(self):
        vocabulary = json.loads((ROOT / "router-models/embedder/tokenizer.json").read_text())["model"]["vocab"]
        words = sorted(word for word in vocabulary if len(word) > 3 and set(word) <= set(string.ascii_lowercase))
        random.Random(7).shuffle(words)
        self.words = words[:2_000]
        drawn = random.Random(8)
        self.centres = [drawn.choices(self.words, k=N_WORDS) for _ in range(N_CENTRES)]

    def near(self, centre, drawn):
        text = list(self.centres[centre])
        for at in drawn.sample(range(N_WORDS), N_REPLACED):
            text[at] = drawn.choice(self.words)
        return " ".join(text)

    def question(self, drawn):
        return self.near(drawn.randrange(len(self.centres)), drawn)


def request_bytes(text, tags):
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nx-stiver-tags: {tags}\r\n{HEADERS}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One call after another over one connection."""

    def __init__(self, address):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request):
        """The status of the answer, once it is there whole."""
        self.socket.sendall(request)
        answer = b""
        while True:
            more = self.socket.recv(65_536)
            if not more:
                raise ConnectionError("the gateway hung up")
            answer += more
            head, found, body = answer.partition(b"\r\n\r\n")
            if not found:
                continue
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            if length is None:
                raise ConnectionError(f"an answer without a length: {head[:200]}")
            if len(body) >= int(length.group(1)):
                return int(head[9:12])


@contextlib.contextmanager
def gateway(args, fake_url, folder):
    """Runs the gateway; gives its address, its process and the seconds until it was ready."""
    address = f"127.0.0.1:{free_port()}"
    guard = folder / "no-guard" if args.without_guard else ROOT / "router-models/guard"
    config = folder / "stiver.toml"
    values = dict(root=ROOT, listen=address, data=folder, fake=fake_url, guard=guard, max_entries=2 * args.entries)
    config.write_text(CONFIG.format(**values))
    log_path = folder / "gateway.log"
    with open(log_path, "a") as log:
        began = time.monotonic()
        with running([args.gateway, "serve", "--config", config], log, stdout=log, cwd=folder) as process:
            wait_until_ready(process, address, log_path)
            while not is_ready(address):
                time.sleep(0.02)
            yield address, process, time.monotonic() - began


def is_ready(address):
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=30) as response:
            return response.status == 200
    except urllib.error.HTTPError:
        return False


def records(path):
    """What the semantic log holds: each record's fixed fields, vector, text and answer."""
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        sys.exit(f"{path} is no semantic log of this version")
    at = len(MAGIC)
    while at < len(data):
        n_bytes, checksum = struct.unpack_from("<II", data, at)
        body = data[at + 8:at + 8 + n_bytes]
        at += 8 + n_bytes
        if zlib.crc32(body) != checksum or body[0] != UPSERT:
            sys.exit(f"{path} has a record of another layout")
        fixed = HEAD.unpack_from(body)
        vector = array.array("f", body[HEAD.size:HEAD.size + 4 * fixed[-1]])
        text_at = HEAD.size + 4 * fixed[-1]
        n_text, = struct.unpack_from("<I", body, text_at)
        text = body[text_at + 4:text_at + 4 + n_text].decode()
        yield fixed, vector, text, body[text_at + 4 + n_text:]


def enlarged(answer, words):
    """The stored answer with another text of about a kilobyte."""
    head, _, body = answer.partition(b"\n")
    body = json.loads(body)
    body["choices"][0]["message"]["content"] = ((" ".join(words) + ". ") * 20)[:ANSWER_BYTES]
    return head + b"\n" + json.dumps(body).encode()


def write_entries(path, n_entries, texts):
    """Replaces the log by one with `n_entries`, each near to one that it held."""
    known = {text: (fixed, vector, answer) for fixed, vector, text, answer in records(path)}
    # On a busy machine some missed the embedder's deadline and were not kept.
    texts.centres = [words for words in texts.centres if " ".join(words) in known]
    centres = [known[" ".join(words)] for words in texts.centres]
    if len(centres) < N_CENTRES / 2 or len({fixed[2] for fixed, _, _ in centres}) != 1:
        sys.exit(f"{path} holds {len(centres)} of {N_CENTRES} questions, or not in one scope")
    drawn = random.Random(9)
    n_dims = centres[0][0][-1]
    away = math.tan(math.acos(COSINE_TO_CENTRE)) / math.sqrt(n_dims)
    noises = [[drawn.gauss(0, away) for _ in range(n_dims)] for _ in range(N_NOISES)]
    answers = [enlarged(answer, words) for (_, _, answer), words in zip(centres, texts.centres)]
    with open(path, "wb", buffering=1 << 20) as log:
        log.write(MAGIC)
        for nth in range(n_entries):
            centre = nth % len(centres)
            fixed, vector, _ = centres[centre]
            moved = list(map(operator.add, vector, noises[nth // len(centres) % N_NOISES]))
            scale = 1 / math.sqrt(sum(map(operator.mul, moved, moved)))
            _, _, scope, expires_at_ms, _, worth, _ = fixed
            text = texts.near(centre, drawn).encode()
            body = HEAD.pack(UPSERT, drawn.randbytes(32), scope, expires_at_ms, centre, worth, n_dims)
            body += array.array("f", [value * scale for value in moved]).tobytes()
            body += struct.pack("<I", len(text)) + text + answers[centre]
            log.write(struct.pack("<II", len(body), zlib.crc32(body)) + body)


def prime(args, fake_url, folder, texts):
    """Fills the log; tells how near questions come to the entries' centres, the median of some."""
    drawn = random.Random(10)
    asked = [texts.question(drawn) for _ in range(20)]
    with gateway(args, fake_url, folder) as (address, _, _):
        connection = Connection(address)
        for text in [" ".join(words) for words in texts.centres] + asked:
            if (status := connection.ask(request_bytes(text, "prime"))) != 200:
                sys.exit(f"the gateway answered {status} to a first question")
        time.sleep(1)
    log = folder / "semantic" / "semantic.log"
    if not log.exists():
        sys.exit(f"nothing was kept by meaning:\n{(folder / 'gateway.log').read_text()[-4000:]}")
    vectors = {text: vector for _, vector, text, _ in records(log)}
    centres = [vectors[" ".join(words)] for words in texts.centres if " ".join(words) in vectors]
    cosine = lambda one, other: sum(map(operator.mul, one, other))
    nearest = statistics.median(
        max(cosine(vectors[text], centre) for centre in centres) for text in asked if text in vectors
    )
    write_entries(log, args.entries, texts)
    return nearest


def send_hits(address, text, per_second, span, results):
    """Equal questions at a steady rate over one connection; puts their times in microseconds."""
    connection, request = Connection(address), request_bytes(text, "hit")
    begin, seconds = span
    times, n_failed, nth = [], 0, 0
    while (due := begin + nth / per_second) < begin + seconds:
        nth += 1
        if (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        elif wait < -1:
            continue  # too late to catch up: the rate that was kept is told
        asked_at = time.perf_counter()
        n_failed += connection.ask(request) != 200
        times.append((time.perf_counter() - asked_at) * 1e6)
    results.put((times, n_failed))


class Questions:
    """New questions that arrive at random, on as many connections as they need."""

    def __init__(self, address, texts, per_second, phase, seed):
        self.address, self.lock, self.n_failed = address, threading.Lock(), 0
        drawn = random.Random(seed)
        at, self.due = 0.0, []
        warmup, seconds = phase
        while (at := at + drawn.expovariate(per_second)) < warmup + seconds:
            name = f"round-{seed}" if at >= warmup else "warm-up"
            self.due.append((at, request_bytes(texts.question(drawn), name)))
        self.n_measured = sum(at >= warmup for at, _ in self.due)
        self.due.reverse()

    def run(self, begin):
        askers = [threading.Thread(target=self.ask, args=(begin,)) for _ in range(N_ASKERS)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()

    def ask(self, begin):
        connection = Connection(self.address)
        while True:
            with self.lock:
                if not self.due:
                    return
                at, request = self.due.pop()
            time.sleep(max(begin + at - time.monotonic(), 0))
            if connection.ask(request) != 200:
                with self.lock:
                    self.n_failed += 1


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cache_errors(address):
    """Failures of the cache so far, by part; one that was late counts."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as response:
        text = response.read().decode()
    found = re.findall(r'^stiver_cache_errors_total\{store="([^"]*)"\} (\S+)', text, re.MULTILINE)
    return {part: float(value) for part, value in found}


def rows_of(folder, seed, n_expected):
    """The rows of a round's questions, once all are in the book."""
    until = time.monotonic() + 30
    while True:
        with contextlib.closing(sqlite3.connect(f"file:{folder}/ledger.sqlite?mode=ro", uri=True)) as book:
            asked = "SELECT cache, stages FROM postings WHERE tags LIKE ? AND path <> 'audit'"
            rows = book.execute(asked, (f'%"round-{seed}"%',)).fetchall()
        if len(rows) >= n_expected or time.monotonic() > until:
            return rows
        time.sleep(0.5)


def quantiles(values):
    ordered = sorted(values)
    at = lambda share: ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1] if ordered else None
    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99)}


class Hits:
    """Equal questions at a steady rate, from processes of their own."""

    def __init__(self, address, text, per_second, span):
        self.results, self.seconds = multiprocessing.Queue(), span[1]
        Connection(address).ask(request_bytes(text, "hit"))
        each = (address, text, per_second / N_HIT_CLIENTS, span, self.results)
        n_clients = N_HIT_CLIENTS if per_second else 0
        self.clients = [multiprocessing.Process(target=send_hits, args=each) for _ in range(n_clients)]
        for client in self.clients:
            client.start()

    def figures(self):
        """Waits for the end."""
        told = [self.results.get() for _ in self.clients]
        for client in self.clients:
            client.join()
        times = [time_us for one, _ in told for time_us in one]
        n_failed = sum(n_failed for _, n_failed in told)
        return {"hits_per_second": len(times) / self.seconds, "hit_us": quantiles(times), "n_failed_hits": n_failed}


def measure(args, running_gateway, texts, load, seed):
    address, process, folder = running_gateway
    per_second, hits_per_second = load
    before_load, errors_before = os.getloadavg()[0], cache_errors(address)
    questions = Questions(address, texts, per_second, (args.warmup, args.seconds), seed)
    begin = time.monotonic() + 0.5
    hits = Hits(address, texts.question(random.Random(seed)), hits_per_second, (begin, args.warmup + args.seconds))
    cpu_before, cpu_began = cpu_seconds(process.pid), time.monotonic()
    questions.run(begin)
    cores = (cpu_seconds(process.pid) - cpu_before) / (time.monotonic() - cpu_began)
    of_hits = hits.figures()
    errors = {part: n - errors_before.get(part, 0) for part, n in cache_errors(address).items()}
    rows = rows_of(folder, seed, questions.n_measured)
    stages = [json.loads(stages) for _, stages in rows]
    took = [(at["looked_up_us"] - at["admitted_us"]) / 1000 for at in stages]
    return {
        "load_average_before": before_load, "gateway_cores": cores,
        "n_asked": questions.n_measured, "n_lookups": len(rows), "n_failed": questions.n_failed,
        "lookup_ms": quantiles(took), "share_within_10_ms": sum(ms <= 10 for ms in took) / max(len(rows), 1),
        "n_hits_by_likeness": sum(cache == "hit-semantic" for cache, _ in rows),
        "n_not_looked_up": sum(cache == "bypass" for cache, _ in rows),
        "cache_errors": {part: n for part, n in errors.items() if n > 0}, **of_hits,
    }


def table(loads, args, about):
    yield f"Command `{shlex.join(sys.argv)}` on {datetime.date.today()}; {machine()}."
    yield (f"{args.entries:,} entries in one scope; ready {about['ready_seconds']:.2f} s after the start; questions "
           f"lie at a cosine of {about['nearest']:.2f} to the nearest centre of entries.")
    yield f"Medians of {args.rounds} rounds of {args.seconds:g} s; times in ms, of exact hits as the client sees them."
    yield ""
    yield ("| questions/s | exact hits/s | lookup p50 | p90 | p99 | within 10 ms "
           "| exact hit p50 | p99 | gateway's cores | load before | hits by likeness | failures of parts |")
    yield "|---:|---:|" + "---:|" * 10
    for load, runs in loads:
        at = lambda name: f"{median_of(runs, 'lookup_ms', name):.1f}"
        hit = lambda name: f"{median_of(runs, 'hit_us', name) / 1000:.2f}" if load[1] else ""
        failures = {}
        for part, n in (error for run in runs for error in run["cache_errors"].items()):
            failures[part] = failures.get(part, 0) + n
        failed = ", ".join(f"{part} {n:.0f}" for part, n in failures.items()) or "0"
        n_failed = sum(run["n_failed"] + run["n_failed_hits"] for run in runs)
        failed += f" ({n_failed} calls failed)" if n_failed else ""
        n_hits, n_lookups = (sum(run[key] for run in runs) for key in ("n_hits_by_likeness", "n_lookups"))
        yield (f"| {load[0]:g} | {median_of(runs, 'hits_per_second'):.0f} of {load[1]:g} | {at('p50')} "
               f"| {at('p90')} | {at('p99')} | {median_of(runs, 'share_within_10_ms'):.3f} "
               f"| {hit('p50')} | {hit('p99')} | {median_of(runs, 'gateway_cores'):.2f} "
               f"| {median_of(runs, 'load_average_before'):.1f} | {n_hits} of {n_lookups} "
               f"| {failed} |")


def main():
    args = arguments()
    loads = [tuple(float(rate) for rate in load.split(":")) for load in args.loads.split(",")]
    texts = Texts()
    with tempfile.TemporaryDirectory() as folder, open(pathlib.Path(folder, "fake.log"), "w") as log:
        folder = pathlib.Path(folder)
        with fake_upstream(args, log) as fake_url:
            say("making entries")
            nearest = prime(args, fake_url, folder, texts)
            with gateway(args, fake_url, folder) as (address, process, ready_seconds):
                say(f"ready after {ready_seconds:.2f} s; nearest {nearest}")
                measured = {load: [] for load in loads}
                for round_nth in range(args.rounds):
                    for load_nth, load in enumerate(loads):
                        seed = 1_000 + round_nth * len(loads) + load_nth
                        run = measure(args, (address, process, folder), texts, load, seed)
                        measured[load].append(run)
                        say(f"  {load}: {json.dumps(run)}")
    about = {"ready_seconds": ready_seconds, "nearest": nearest}
    print("\n".join(table(measured.items(), args, about)))
    rows = [{"questions_per_second": load[0], "hits_per_second": load[1], "rounds": runs} for load, runs in measured.items()]
    about |= {"machine": machine(), "command": shlex.join(sys.argv), "entries": args.entries}
    text = json.dumps(about | {"rows": rows})
    print(f"\n{text}")
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
