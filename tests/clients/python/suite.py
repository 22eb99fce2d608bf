"""Runs every case with the official OpenAI SDK, directly and through the gateway, and compares them.

    DIRECT_BASE_URL=http://127.0.0.1:9100/v1 GATEWAY_BASE_URL=http://127.0.0.1:8080/v1 \
    GATEWAY_KEY=... python tests/clients/python/suite.py [case ...]

Without GATEWAY_BASE_URL the cases run against the fake upstream alone. This file knows no case and
starts no server.

Invariants: a case passes through the gateway only if the SDK shows the same as without it, but for
identifiers, times and the gateway's additions; the last line counts, and a failure exits with 1.
"""

import difflib
import json
import os
import sys
import time
import traceback
import urllib.request
import uuid

import openai

import cases
import failures  # noqa: F401 (importing it registers its cases)

RUN = uuid.uuid4().hex[:8]
ANSWER_HEADERS = ["x-request-id", "x-stiver-path", "x-stiver-model", "x-stiver-cache"]
ANSWERING = ("/chat/completions", "/completions", "/embeddings")


class Target:
    """One base URL, the clients for it, and the headers of what it answered."""

    # The tags are equally long, so that prompts with a tag count the same tokens.
    def __init__(self, name, tag, base_url, key, direct_base_url):
        self.name, self.tag, self.key = name, tag, key
        self.base_url = base_url.rstrip("/")
        self.fake_root = direct_base_url.rstrip("/").removesuffix("/v1")
        self.answers = []
        self.client = self.new_client(max_retries=0)

    def new_client(self, **options):
        http = openai.DefaultHttpxClient(event_hooks={"response": [self.note]})
        return self._new(openai.OpenAI, http, options)

    def new_async_client(self, **options):
        async def note(response):
            self.note(response)

        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [note]})
        return self._new(openai.AsyncOpenAI, http, options)

    def _new(self, kind, http, options):
        options = {"api_key": self.key, "timeout": 20.0} | options
        return kind(base_url=self.base_url, http_client=http, **options)

    def note(self, response):
        self.answers.append(response)

    def say(self, text, directive=""):
        """A prompt that no cache has seen in an earlier run; both targets get the same."""
        return f"{text} in run {RUN}" + (f" [[fake: {directive}]]" if directive else "")

    def say_apart(self, text, directive=""):
        """A prompt of this target's own, where the fake counts calls by their text."""
        return self.say(f"{text} by {self.tag}", directive)

    def seen_by_fake(self, prompt):
        """The upstream calls that carried `prompt`."""
        with urllib.request.urlopen(f"{self.fake_root}/calls") as response:
            return [call for call in json.load(response) if prompt in call["body"]]

    def wait_for(self, holds, what, seconds=5.0):
        """Polls, because the fake is another process."""
        until = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < until, f"{what}: not within {seconds} s"
            time.sleep(0.02)

    @property
    def is_gateway(self):
        return self.name == "gateway"


def normalised(shown, tag):
    """What two runs may differ in, taken out."""
    if isinstance(shown, dict):
        return {
            key: normalised(value, tag)
            for key, value in shown.items()
            if key != "created" and not (key == "id" and str(value).startswith(("chatcmpl-", "cmpl-")))
        }
    if isinstance(shown, (list, tuple)):
        return [normalised(value, tag) for value in shown]
    return shown.replace(tag, "TAG") if isinstance(shown, str) else shown


def without_cost(shown):
    """What the gateway adds to usage, taken out; says whether it was there."""
    n_costs = 0

    def walk(value):
        nonlocal n_costs
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "completion_tokens" in value or "total_tokens" in value:
            n_costs += "cost" in value
            value = {key: item for key, item in value.items() if key != "cost"}
        return {key: walk(item) for key, item in value.items()}

    return walk(shown), n_costs


def check_headers(target):
    for response in target.answers:
        where = f"{response.request.url.path} answered {response.status_code}"
        assert response.headers.get("x-request-id"), f"{where} without x-request-id"
        if response.status_code != 200 or not response.request.url.path.endswith(ANSWERING):
            continue
        wanted = list(ANSWER_HEADERS)
        if "text/event-stream" not in response.headers["content-type"]:
            # A stream's cost is known at its end only, and stands in its last chunk.
            wanted.append("x-stiver-cost-usd")
        missing = [name for name in wanted if not response.headers.get(name)]
        assert not missing, f"{where} without {missing}"
        float(response.headers.get("x-stiver-cost-usd", "0"))


def check_case(target, case, expected):
    """Runs a case once and returns what it showed."""
    target.answers.clear()
    shown = normalised(json.loads(json.dumps(case(target))), target.tag)
    if not target.is_gateway:
        return shown
    check_headers(target)
    shown, n_costs = without_cost(shown)
    if getattr(case, "shows_usage", False):
        assert n_costs > 0, "no usage carried a cost"
    if shown != expected:
        lines = [json.dumps(side, indent=1, sort_keys=True).splitlines() for side in (expected, shown)]
        diff = [line for line in difflib.unified_diff(*lines, "direct", "gateway", n=1, lineterm="")]
        raise AssertionError("the SDK shows something else\n    " + "\n    ".join(diff[:40]))
    return shown


def main(wanted):
    direct_url = os.environ.get("DIRECT_BASE_URL", "http://127.0.0.1:9100/v1")
    targets = [Target("direct", "direct0", direct_url, "any-key", direct_url)]
    if gateway_url := os.environ.get("GATEWAY_BASE_URL"):
        key = os.environ.get("GATEWAY_KEY", "any-key")
        targets.append(Target("gateway", "gateway", gateway_url, key, direct_url))
    n_passed = n_failed = 0
    for case in cases.ALL:
        if wanted and case.__name__ not in wanted:
            continue
        expected = None
        for target in targets:
            try:
                expected = check_case(target, case, expected)
                n_passed += 1
                print(f"ok    {target.name:8} {case.__name__}")
            except Exception as error:  # a case may fail in any way
                n_failed += 1
                print(f"FAIL  {target.name:8} {case.__name__}: {type(error).__name__}: {error}")
                if "-v" in sys.argv:
                    traceback.print_exc()
    print(f"{n_passed} passed, {n_failed} failed")
    return 1 if n_failed or not n_passed else 0


if __name__ == "__main__":
    sys.exit(main([argument for argument in sys.argv[1:] if not argument.startswith("-")]))
