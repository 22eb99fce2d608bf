"""Asks the embedded default, without a key or a network, through the official OpenAI SDK.

    python tests/clients/python/local.py BASE_URL

Starts no server; the gateway at BASE_URL has the model that ships and no other upstream. What the model knows is
measured where it was trained; here it has to answer, and to say what it cannot.

Invariant: the last line counts the cases; a failure ends with a traceback and status 1.
"""

import json
import sys

import openai
from pydantic import BaseModel, Field

CASES = []


def case(function):
    CASES.append(function)
    return function


def ask(client, text, **more):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="auto", messages=messages, **more)


@case
def a_support_question_is_answered_in_a_stream(client):
    options = {"include_usage": True}
    chunks = list(ask(client, "How long does delivery take?", stream=True, stream_options=options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "working days" in text, text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens > 5 and not chunks[-1].choices


@case
def the_same_is_answered_whole_and_costs_nothing(client):
    raw = client.chat.completions.with_raw_response.create(
        model="auto",
        messages=[{"role": "user", "content": "How do I return a lamp?"}],
        extra_headers={"cache-control": "no-store"},
    )
    answer = raw.parse()
    assert "return" in answer.choices[0].message.content.lower(), answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert raw.headers["x-stiver-path"] == "local" and float(raw.headers["x-stiver-cost-usd"]) == 0


@case
def what_is_out_of_its_domain_is_declined_plainly(client):
    answer = ask(client, "What is the capital of France?").choices[0].message.content
    assert "only help with" in answer and "Paris" not in answer, answer


@case
def log_probabilities_and_several_choices_are_read_by_the_sdk(client):
    answer = ask(client, "hello there", n=2, temperature=1.0, seed=3, logprobs=True, top_logprobs=2, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in choice.logprobs.content)


class Parcel(BaseModel):
    # Bounded, because a small model would write digits without an end.
    number: int = Field(ge=0, le=99_999)
    is_late: bool


@case
def a_structured_output_is_parsed_into_its_class(client):
    messages = [{"role": "user", "content": "Is order 48213 late?"}]
    parsed = client.chat.completions.parse(model="auto", messages=messages, response_format=Parcel, max_tokens=600)
    assert isinstance(parsed.choices[0].message.parsed, Parcel), parsed


@case
def a_completion_goes_on_where_its_prompt_ends(client):
    answer = client.completions.create(model="support-assistant", prompt="Your order", max_tokens=4, echo=True)
    assert answer.choices[0].text.startswith("Your order"), answer


@case
def tools_are_refused_by_name(client):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    try:
        ask(client, "hello", tools=[tool])
    except openai.APIStatusError as error:
        assert "tools" in json.dumps(error.body), error.body
    else:
        raise AssertionError("a model without tools took them")


def main():
    client = openai.OpenAI(base_url=sys.argv[1], api_key="anything", max_retries=0)
    for function in CASES:
        function(client)
        print(f"ok {function.__name__}")
    print(f"{len(CASES)} passed, 0 failed")


if __name__ == "__main__":
    main()
