"""The cases that fail: errors, timeouts, and streams that end badly or are left.

Like the other cases these return what the SDK showed; see cases.py for how they are registered.

Invariants: every prompt is new in every run; a case leaves no stream open.
"""

import openai

from cases import CHAT_MODEL, ask, case


def raised_by(call):
    try:
        call()
    except openai.APIError as error:
        return error
    raise AssertionError("nothing was raised")


def shown_error(error):
    assert set(error.body) >= {"message", "type", "param", "code"}, f"the body is {error.body}"
    return {"class": type(error).__name__, "status": error.status_code}


@case()
def error_400_of_the_request(target):
    error = raised_by(lambda: target.client.chat.completions.create(model=CHAT_MODEL, messages=[]))
    assert type(error) is openai.BadRequestError
    return shown_error(error)


@case()
def error_400_of_the_upstream(target):
    error = raised_by(lambda: ask(target, "too long", 'status=400 message="context is too long"'))
    assert type(error) is openai.BadRequestError
    assert "context is too long" in error.message, "the caller must learn what is wrong with the request"
    return shown_error(error)


@case()
def error_401_for_a_bad_key(target):
    client = target.new_client(api_key="bad-key", max_retries=0)
    error = raised_by(lambda: ask(target, "let me in", client=client))
    assert type(error) is openai.AuthenticationError
    return shown_error(error)


@case()
def error_404_for_an_unknown_model(target):
    prompt = [{"role": "user", "content": "anyone there?"}]
    error = raised_by(lambda: target.client.chat.completions.create(model="no-such-model", messages=prompt))
    assert type(error) is openai.NotFoundError
    return shown_error(error)


@case()
def error_429_of_the_upstream(target):
    error = raised_by(lambda: ask(target, "too fast", "status=429 retry_after=1"))
    assert type(error) is openai.RateLimitError
    return shown_error(error)


@case()
def error_500_of_the_upstream(target):
    error = raised_by(lambda: ask(target, "broken", "status=500"))
    assert type(error) is openai.InternalServerError
    return {"class": type(error).__name__}


@case()
def retry_after_429_then_success(target):
    client = target.new_client(max_retries=2)
    prompt = target.say_apart("patience", "status=429 retry_after_ms=50 fail_first=1")
    completion = ask(target, "", client=client, messages=[{"role": "user", "content": prompt}])
    calls = target.seen_by_fake(prompt.split(" [[")[0])
    assert len(calls) == 2, f"the upstream saw {len(calls)} calls"
    return completion.model_dump()


@case()
def timeout(target):
    client = target.new_client(max_retries=0, timeout=0.4)
    error = raised_by(lambda: ask(target, "never answered", "hang=headers", client=client))
    assert type(error) is openai.APITimeoutError
    return type(error).__name__


@case()
def abort_in_mid_stream(target):
    prompt = target.say_apart("interrupted", "chunks=10 pause_at=4")
    stream = ask(target, "", messages=[{"role": "user", "content": prompt}], stream=True)
    heard = [next(stream).choices[0].delta.content for _ in range(5)]
    stream.close()
    said = prompt.split(" [[")[0]
    gone = lambda: [call["ending"] for call in target.seen_by_fake(said)] == ["client_gone"]
    target.wait_for(gone, "the upstream notices that the client left")
    return heard


@case()
def error_in_mid_stream(target):
    stream = ask(target, "fails half way", "chunks=6 error_at=3", stream=True)
    heard = []
    error = raised_by(lambda: heard.extend(chunk.choices[0].delta.content for chunk in stream))
    assert type(error) is openai.APIError and error.body["type"]
    return {"heard": heard, "class": type(error).__name__}


@case()
def truncated_stream_is_no_success(target):
    stream = ask(target, "cut half way", "chunks=6 cut=3", stream=True)
    heard = []
    try:
        heard.extend(chunk.choices[0].delta.content for chunk in stream)
    except Exception:  # directly a broken connection, through the gateway an error event
        return {"heard": heard}
    raise AssertionError("a truncated stream ended like a whole one")
