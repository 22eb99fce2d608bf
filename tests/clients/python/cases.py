"""The cases that succeed: each uses the SDK as an application would and returns what the SDK showed.

A case asserts what must hold anywhere; that the gateway changes nothing is for the suite to compare.

Invariants: every prompt is new in every run; a case leaves no stream open.
"""

import asyncio
import os

from pydantic import BaseModel

CHAT_MODEL = os.environ.get("CHAT_MODEL", "gpt-4o-mini")
COMPLETIONS_MODEL = os.environ.get("COMPLETIONS_MODEL", "gpt-3.5-turbo-instruct")
EMBEDDINGS_MODEL = os.environ.get("EMBEDDINGS_MODEL", "text-embedding-3-small")
N_CONCURRENT = 20
# One transparent pixel.
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

ALL = []


def case(shows_usage=False):
    def register(function):
        function.shows_usage = shows_usage
        ALL.append(function)
        return function

    return register


def weather_tool(name="get_weather"):
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "strict": True, "parameters": parameters}}


class Step(BaseModel):
    explanation: str
    output: str


class Solution(BaseModel):
    steps: list[Step]
    final_answer: str
    confidence: float


def ask(target, text, directive="", client=None, **options):
    messages = options.pop("messages", None) or [{"role": "user", "content": target.say(text, directive)}]
    client = client or target.client
    return client.chat.completions.create(model=CHAT_MODEL, messages=messages, **options)


def chunks_of(stream):
    return [chunk.model_dump(exclude_unset=True) for chunk in stream]


def words_of(chunks):
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@case(shows_usage=True)
def chat(target):
    completion = ask(target, "say hello")
    assert "say hello" in completion.choices[0].message.content
    assert completion._request_id
    return completion.model_dump()


@case(shows_usage=True)
def chat_with_history_and_cached_tokens(target):
    history = [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": target.say("And of Spain?", "cached=16 prompt=64")},
    ]
    completion = ask(target, "", messages=history)
    assert completion.usage.prompt_tokens_details.cached_tokens == 16
    return completion.model_dump()


@case()
def chat_stream(target):
    chunks = chunks_of(ask(target, "stream to me", "chunks=12", stream=True))
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk.get("usage") is None for chunk in chunks), "usage was not asked for"
    return {"words": words_of(chunks), "chunks": chunks}


@case(shows_usage=True)
def chat_stream_with_usage(target):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = chunks_of(ask(target, "stream and count", "chunks=12 cached=4", **options))
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 12
    return chunks


@case()
def chat_stream_in_odd_pieces(target):
    stream = ask(target, "pieces", "chunks=8 split=7 crlf comments multi_data", stream=True)
    return {"words": words_of(chunks_of(stream))}


@case(shows_usage=True)
def tools(target):
    completion = ask(target, "weather in Paris", tools=[weather_tool()], tool_choice="auto")
    call = completion.choices[0].message.tool_calls[0]
    assert completion.choices[0].finish_reason == "tool_calls"
    history = [
        {"role": "user", "content": target.say("weather in Paris, told by a tool")},
        completion.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"},
    ]
    told = ask(target, "", messages=history, tools=[weather_tool()])
    assert told.choices[0].message.tool_calls is None
    return [completion.model_dump(), told.model_dump()]


@case(shows_usage=True)
def parallel_tools(target):
    both = [weather_tool(), weather_tool("get_forecast")]
    completion = ask(target, "weather twice", "parallel=2", tools=both, parallel_tool_calls=True)
    names = [call.function.name for call in completion.choices[0].message.tool_calls]
    assert names == ["get_weather", "get_forecast"]
    return completion.model_dump()


@case()
def streamed_tools(target):
    both = [weather_tool(), weather_tool("get_forecast")]
    prompt = [{"role": "user", "content": target.say("weather twice, streamed", "parallel=2")}]
    with target.client.chat.completions.stream(model=CHAT_MODEL, messages=prompt, tools=both) as stream:
        events = [event.type for event in stream]
        completion = stream.get_final_completion()
    calls = completion.choices[0].message.tool_calls
    assert [call.function.parsed_arguments["unit"] for call in calls] == ["celsius", "celsius"]
    return {"events": events, "completion": completion.model_dump()}


@case(shows_usage=True)
def structured_output(target):
    prompt = [{"role": "user", "content": target.say("solve 8x + 7 = -23")}]
    completion = target.client.chat.completions.parse(model=CHAT_MODEL, messages=prompt, response_format=Solution)
    assert isinstance(completion.choices[0].message.parsed, Solution)
    # pydantic does not know that `parsed` may hold any model.
    return completion.model_dump(warnings=False)


@case()
def structured_output_streamed(target):
    prompt = [{"role": "user", "content": target.say("solve 9x + 7 = -23")}]
    with target.client.chat.completions.stream(
        model=CHAT_MODEL, messages=prompt, response_format=Solution
    ) as stream:
        completion = stream.get_final_completion()
    assert isinstance(completion.choices[0].message.parsed, Solution)
    # pydantic does not know that `parsed` may hold any model.
    return completion.model_dump(warnings=False)


@case(shows_usage=True)
def vision_parts(target):
    parts = [
        {"type": "text", "text": target.say("what is in this picture")},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ]
    completion = ask(target, "", messages=[{"role": "user", "content": parts}])
    assert "picture" in completion.choices[0].message.content
    return completion.model_dump()


@case(shows_usage=True)
def logprobs(target):
    completion = ask(target, "how sure", "chunks=5", logprobs=True, top_logprobs=2)
    tokens = completion.choices[0].logprobs.content
    assert len(tokens) == 5 and len(tokens[0].top_logprobs) == 2
    return completion.model_dump()


@case()
def logprobs_streamed(target):
    chunks = chunks_of(ask(target, "how sure, streamed", "chunks=5", logprobs=True, stream=True))
    assert sum(bool(chunk["choices"][0]["logprobs"]) for chunk in chunks) == 5
    return chunks


@case(shows_usage=True)
def several_choices(target):
    completion = ask(target, "say it twice", n=2)
    assert [choice.index for choice in completion.choices] == [0, 1]
    return completion.model_dump()


@case()
def several_choices_streamed(target):
    chunks = chunks_of(ask(target, "say it twice, streamed", n=2, stream=True))
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1}
    return chunks


@case(shows_usage=True)
def stop_sequences(target):
    completion = ask(target, "one two STOPHERE three", stop=["STOPHERE"])
    assert completion.choices[0].message.content.endswith("one two ")
    return completion.model_dump()


@case(shows_usage=True)
def token_limit(target):
    completion = ask(target, "many words", "chunks=30", max_completion_tokens=4)
    assert completion.choices[0].finish_reason == "length" and completion.usage.completion_tokens == 4
    return completion.model_dump()


@case(shows_usage=True)
def seed(target):
    completion = ask(target, "the same again", seed=42)
    assert completion.system_fingerprint.endswith("42")
    return completion.model_dump()


@case(shows_usage=True)
def reasoning(target):
    completion = ask(target, "think first", "reasoning=6", reasoning_effort="low")
    assert completion.usage.completion_tokens_details.reasoning_tokens == 6
    assert completion.choices[0].message.model_extra["reasoning_content"].startswith("thought0")
    return completion.model_dump()


@case()
def reasoning_streamed(target):
    chunks = chunks_of(ask(target, "think first, streamed", "reasoning=6", stream=True))
    assert sum("reasoning_content" in chunk["choices"][0]["delta"] for chunk in chunks) == 6
    return chunks


@case(shows_usage=True)
def refusal(target):
    completion = ask(target, "something forbidden", "refusal")
    assert completion.choices[0].message.refusal and completion.choices[0].message.content is None
    return completion.model_dump()


@case(shows_usage=True)
def unknown_fields(target):
    sent = {"x_custom": {"list": [1, 2.5, None], "text": "é\u2028"}, "x_flag": True}
    completion = ask(target, "strangers", "unknown", extra_body=sent)
    assert completion.model_extra["x_echo"] == sent, "what was sent did not arrive as it was"
    assert completion.model_extra["x_unknown"]["kept"] is True
    return completion.model_dump()


@case()
def unknown_fields_streamed(target):
    chunks = chunks_of(ask(target, "streamed strangers", "unknown", extra_body={"x_custom": [1]}, stream=True))
    assert all(chunk["x_echo"] == {"x_custom": [1]} and chunk["x_unknown"] for chunk in chunks)
    return chunks


@case(shows_usage=True)
def unicode(target):
    completion = ask(target, "naïve 日本語 🦀 \u0007 \"quoted\" back\\slash")
    assert "日本語 🦀" in completion.choices[0].message.content
    return completion.model_dump()


@case(shows_usage=True)
def completions(target):
    completion = target.client.completions.create(
        model=COMPLETIONS_MODEL, prompt=target.say("once upon a time", "chunks=9"), logprobs=1, max_tokens=20
    )
    assert completion.usage.completion_tokens == 9
    return completion.model_dump()


@case()
def completions_streamed(target):
    stream = target.client.completions.create(
        model=COMPLETIONS_MODEL, prompt=target.say("once upon a stream", "chunks=9"), stream=True
    )
    chunks = chunks_of(stream)
    assert "once upon a stream" in "".join(chunk["choices"][0]["text"] for chunk in chunks)
    return chunks


@case()
def embeddings_as_the_sdk_asks(target):
    texts = [target.say("first text"), target.say("second text")]
    answer = target.client.embeddings.create(model=EMBEDDINGS_MODEL, input=texts)
    assert len(answer.data) == 2 and all(isinstance(x, float) for x in answer.data[1].embedding)
    return answer.model_dump()


@case()
def embeddings_as_floats(target):
    text = target.say("a text of floats")
    answer = target.client.embeddings.create(
        model=EMBEDDINGS_MODEL, input=text, encoding_format="float", dimensions=64
    )
    assert len(answer.data[0].embedding) == 64
    return answer.model_dump()


@case()
def models(target):
    listed = [model.id for model in target.client.models.list()]
    assert CHAT_MODEL in listed
    one = target.client.models.retrieve(CHAT_MODEL)
    # Which other models there are is the server's affair.
    return {"object": one.object, "id": one.id}


@case(shows_usage=True)
def twenty_at_once(target):
    async def one(client, nth):
        messages = [{"role": "user", "content": target.say(f"caller number {nth:02}", "chunks=8 interval_ms=2")}]
        if nth % 2 == 0:
            completion = await client.chat.completions.create(model=CHAT_MODEL, messages=messages)
            assert f"number {nth:02}" in completion.choices[0].message.content
            return completion.model_dump()
        stream = await client.chat.completions.create(model=CHAT_MODEL, messages=messages, stream=True)
        chunks = [chunk.model_dump(exclude_unset=True) async for chunk in stream]
        assert f"number {nth:02}" in words_of(chunks)
        return chunks

    async def all_at_once():
        async with target.new_async_client(max_retries=0) as client:
            return await asyncio.gather(*(one(client, nth) for nth in range(N_CONCURRENT)))

    return asyncio.run(all_at_once())
