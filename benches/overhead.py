#!/usr/bin/env python3
"""What the gateway adds to a call: the same load directly and through it, in turns, stage by stage.

    cargo build --release --bin stiver --example fake-upstream --example load
    benches/overhead.py                      # every benches/configs/*.toml, in name order
    benches/overhead.py --only proxy --clients 1,16 --rounds 3
    benches/overhead.py --configs benches/soak --soak 600

A configuration is a gateway configuration with four placeholders, replaced before it is used:
@FAKE@ (the fake upstream's base URL), @LISTEN@ (the address to listen on), @DATA@ (an empty folder),
@ROOT@ (the repository).
Comment lines at its top steer the run:

    # bench: title = + exact cache, hits
    # bench: prompts = same              (unique is the default)
    # bench: setup = keys create --team bench   (run with --config F first; a key it prints is used)
    # bench: key = sk-...                (a key that the configuration knows)
    # bench: clients = 1,16              (instead of --clients)
    # bench: env = NAME=VALUE            (may be repeated)

Prints a Markdown table to standard output and its progress to standard error. It builds nothing and
judges nothing: limits are for the reader, or for CI to set on the JSON that --json writes.

Invariants: direct and gateway runs alternate, and each round has a new seed; a figure is the median
of the rounds' figures; a run with failed calls is marked with how many failed.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
READY_SECONDS = 60
SAMPLE_SECONDS = 5
KEY = re.compile(r"\b(?:sk|stiver|stv)[-_][\w-]+")


def arguments():
    release = ROOT / "target" / "release"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gateway", type=pathlib.Path, default=release / "stiver")
    parser.add_argument("--fake", type=pathlib.Path, default=release / "examples" / "fake-upstream")
    parser.add_argument("--load", type=pathlib.Path, default=release / "examples" / "load")
    parser.add_argument("--configs", type=pathlib.Path, default=ROOT / "benches" / "configs")
    parser.add_argument("--only", action="append", help="a part of a configuration's file name; may be repeated")
    parser.add_argument("--clients", default="1,16,128")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--warmup", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", default="whole,stream", help="whole, stream, or both")
    parser.add_argument("--answer", default="chunks=16", help="settings for the fake upstream")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="sample the gateway's memory under load instead")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to this file, too")
    return parser.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, log, **options):
    process = subprocess.Popen([str(part) for part in command], stderr=log, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def fake_upstream(args, log):
    command = [args.fake, "--port", "0", "--keep", "0", "--prebuilt", "--script", args.answer]
    with running(command, log, stdout=subprocess.PIPE, text=True) as process:
        base_url = process.stdout.readline().strip()
        if not base_url.startswith("http"):
            sys.exit(f"{args.fake} did not start; see its log")
        yield base_url


class Stage:
    """A configuration file and what its comments ask for."""

    def __init__(self, path, args):
        self.name = path.stem
        self.text = path.read_text()
        asked = re.findall(r"^# bench: (\w+) = (.*)$", self.text, re.MULTILINE)
        self.env = dict(value.split("=", 1) for key, value in asked if key == "env")
        asked = dict(asked)
        self.title = asked.get("title", self.name)
        self.same = asked.get("prompts", "unique") == "same"
        self.setup = asked.get("setup")
        self.key = asked.get("key", "load-test")
        self.clients = [int(n) for n in asked.get("clients", args.clients).split(",")]

    @contextlib.contextmanager
    def gateway(self, args, fake_url, folder):
        """Runs the gateway with this configuration until the block ends; gives its URL and process."""
        address = f"127.0.0.1:{free_port()}"
        data = folder / self.name
        data.mkdir()
        config = folder / f"{self.name}.toml"
        replaced = {"@FAKE@": fake_url, "@LISTEN@": address, "@DATA@": str(data), "@ROOT@": str(ROOT)}
        text = self.text
        for placeholder, value in replaced.items():
            text = text.replace(placeholder, value)
        config.write_text(text)
        options = {"env": os.environ | self.env, "cwd": data}
        if self.setup:
            command = [args.gateway, *shlex.split(self.setup), "--config", config]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
            if done.returncode != 0:
                sys.exit(f"{self.name}: setup failed\n{done.stdout}{done.stderr}")
            if key := KEY.search(done.stdout):
                self.key = key.group()
        log_path = folder / f"{self.name}.log"
        with open(log_path, "w+") as log:
            with running([args.gateway, "serve", "--config", config], log, stdout=log, **options) as process:
                wait_until_ready(process, address, log_path)
                yield f"http://{address}/v1", process


def wait_until_ready(process, address, log_path):
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(f"http://{address}/healthz", timeout=1) as response:
                if response.status == 200:
                    return
        time.sleep(0.05)
    sys.exit(f"the gateway is not ready at {address}:\n{pathlib.Path(log_path).read_text()[-4000:]}")


def load_command(args, url, stage, clients, streamed, seconds):
    command = [args.load, "--url", url, "--key", stage.key, "--clients", clients, "--seconds", seconds]
    command += ["--warmup", args.warmup, "--json", "--same" if stage.same else "--unique"]
    return [str(part) for part in command + (["--stream"] if streamed else [])]


def load(*asked):
    done = subprocess.run(load_command(*asked), capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        sys.exit(f"the load generator failed: {done.stderr}")


def median_of(runs, *path):
    def figure(run):
        for key in path:
            run = run[key]
        return run

    return statistics.median(figure(run) for run in runs)


def measure(args, stage, fake_url, gateway_url):
    """The rows of one stage: direct and gateway in turns, for each shape and number of clients."""
    rows = []
    for streamed in [shape == "stream" for shape in args.shapes.split(",")]:
        for clients in stage.clients:
            direct, through = [], []
            for _ in range(args.rounds):
                direct.append(load(args, fake_url, stage, clients, streamed, args.seconds))
                through.append(load(args, gateway_url, stage, clients, streamed, args.seconds))
            row = {"stage": stage.title, "config": stage.name, "clients": clients, "streamed": streamed}
            row["n_errors"] = sum(run["n_errors"] for run in direct + through)
            for name, runs in [("direct", direct), ("gateway", through)]:
                row[name] = {"per_second": median_of(runs, "per_second")}
                for kind in ("total_us", "first_byte_us"):
                    row[name][kind] = {q: median_of(runs, kind, q) for q in ("p50", "p99")}
            rows.append(row)
            say(f"  {clients:4} clients {'streamed' if streamed else 'whole':8} "
                f"p50 +{added(row, 'total_us', 'p50'):.0f} µs  p99 +{added(row, 'total_us', 'p99'):.0f} µs  "
                f"{row['gateway']['per_second']:.0f} of {row['direct']['per_second']:.0f} a second")
    return rows


def added(row, kind, quantile):
    return row["gateway"][kind][quantile] - row["direct"][kind][quantile]


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    name = model.group(1) if model else platform.processor()
    return f"{os.cpu_count()} cores, {name}, {platform.system()} {platform.release()}"


def table(rows, args):
    yield f"Command `{shlex.join(sys.argv)}` on {datetime.date.today()}; {machine()}."
    yield (f"Medians of {args.rounds} rounds of {args.seconds:g} s, direct and gateway in turns; generator, "
           "gateway and upstream share the cores. Times in µs; first byte is of a stream's first event.")
    yield ""
    yield ("| stage | clients | answer | direct p50 | direct p99 | added p50 | added p99 | added first byte p50 "
           "| direct req/s | gateway req/s | ratio |")
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        direct, through = row["direct"], row["gateway"]
        ratio = through["per_second"] / direct["per_second"] if direct["per_second"] else 0
        failed = f" ({row['n_errors']} failed)" if row["n_errors"] else ""
        first_byte = f"{added(row, 'first_byte_us', 'p50'):.0f}" if row["streamed"] else ""
        yield (f"| {row['stage']}{failed} | {row['clients']} | {'stream' if row['streamed'] else 'whole'} "
               f"| {direct['total_us']['p50']:.0f} | {direct['total_us']['p99']:.0f} "
               f"| {added(row, 'total_us', 'p50'):.0f} | {added(row, 'total_us', 'p99'):.0f} | {first_byte} "
               f"| {direct['per_second']:.0f} | {through['per_second']:.0f} | {ratio:.2f} |")


def of_process(pid):
    """Resident memory in KiB, threads and open files."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    field = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE).group(1))
    return field("VmRSS"), field("Threads"), len(os.listdir(f"/proc/{pid}/fd"))


def slope_per_second(samples):
    """The least-squares slope of (seconds, value)."""
    if len(samples) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*samples)).slope


def soak(args, stage, gateway_url, process):
    """Samples the gateway's memory while unlike prompts load it, half of them streamed."""
    clients = max(stage.clients[-1] // 2, 1)
    commands = [load_command(args, gateway_url, stage, clients, streamed, args.soak) for streamed in (False, True)]
    loads = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    begun, samples = time.monotonic(), []
    while any(one.poll() is None for one in loads):
        time.sleep(SAMPLE_SECONDS)
        if process.poll() is not None:
            sys.exit(f"the gateway ended after {time.monotonic() - begun:.0f} s under load")
        rss, threads, files = of_process(process.pid)
        samples.append((time.monotonic() - begun, rss, threads, files))
        say(f"  {samples[-1][0]:6.0f} s  {rss / 1024:8.1f} MiB  {threads} threads  {files} files")
    results = [json.loads(one.communicate()[0] or "{}") for one in loads]
    # Caches and pools fill at first; growth that goes on is in the second half.
    half = samples[len(samples) // 2:]
    slope = slope_per_second([(at, rss) for at, rss, _, _ in half]) * 3600 / 1024
    rss = [sample[1] / 1024 for sample in samples]
    return {
        "stage": stage.title, "clients": 2 * clients, "seconds": args.soak,
        "n_served": sum(result.get("n_served", 0) for result in results),
        "n_errors": sum(result.get("n_errors", 0) for result in results),
        "rss_first_mib": rss[0], "rss_last_mib": rss[-1], "rss_max_mib": max(rss),
        "slope_second_half_mib_per_hour": slope, "threads_last": samples[-1][2], "files_last": samples[-1][3],
        "samples": samples,
    }


def soak_table(rows):
    yield f"Command `{shlex.join(sys.argv)}` on {datetime.date.today()}; {machine()}."
    yield ""
    yield "| stage | clients | seconds | served | failed | RSS first | last | most | slope, second half |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        yield (f"| {row['stage']} | {row['clients']} | {row['seconds']:g} | {row['n_served']} | {row['n_errors']} "
               f"| {row['rss_first_mib']:.1f} MiB | {row['rss_last_mib']:.1f} MiB | {row['rss_max_mib']:.1f} MiB "
               f"| {row['slope_second_half_mib_per_hour']:+.1f} MiB/h |")


def main():
    args = arguments()
    stages = [Stage(path, args) for path in sorted(args.configs.glob("*.toml"))]
    if args.only:
        stages = [stage for stage in stages if any(part in stage.name for part in args.only)]
    if not stages:
        sys.exit(f"no configuration in {args.configs} fits")
    rows = []
    with tempfile.TemporaryDirectory() as folder, open(pathlib.Path(folder, "fake.log"), "w") as log:
        with fake_upstream(args, log) as fake_url:
            for stage in stages:
                say(stage.title)
                with stage.gateway(args, fake_url, pathlib.Path(folder)) as (gateway_url, process):
                    if args.soak:
                        rows.append(soak(args, stage, gateway_url, process))
                    else:
                        rows += measure(args, stage, fake_url, gateway_url)
    print("\n".join(soak_table(rows) if args.soak else table(rows, args)))
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
