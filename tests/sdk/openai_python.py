"""openai-python, unmodified, against the proxy. Run by tests/it/sdk.rs; ends with a traceback on the first surprise."""

import asyncio
import json
import sys

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from expect import raises

client = OpenAI(max_retries=0, timeout=60)  # OPENAI_BASE_URL and OPENAI_API_KEY come from the test
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def ask(text, **more):
    return client.chat.completions.create(
        model="codex-local", messages=[{"role": "user", "content": text}], **more
    )


def models():
    ids = [model.id for model in client.models.list()]
    assert ids[0] == "codex-local", ids
    assert client.models.retrieve("codex-local").object == "model"
    raises(openai.NotFoundError, lambda: client.models.retrieve("no-such"))


def whole():
    answer = ask("Reply with exactly: pong")
    assert answer.choices[0].message.content == "pong"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.refusal is None and answer.choices[0].logprobs is None
    assert answer.usage.prompt_tokens == 11 and answer.usage.total_tokens == 18
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    assert answer.id.startswith("chatcmpl-") and answer._request_id


def history():
    answer = client.chat.completions.create(
        model="codex-local",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "Reply with exactly: three"}]},
        ],
    )
    assert "three" in answer.choices[0].message.content


def streamed():
    chunks = list(ask("Reply with exactly: one two three", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)

    chunks = list(ask("Reply with exactly: one", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 18

    with client.chat.completions.stream(
        model="codex-local", messages=[{"role": "user", "content": "Reply with exactly: one two"}]
    ) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "one two"


def choices():
    answer = ask("Reply with exactly: pong", n=3)
    assert [choice.message.content for choice in answer.choices] == ["pong"] * 3
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    seen = {}
    for chunk in ask("Reply with exactly: pong", n=2, stream=True):
        for choice in chunk.choices:
            seen[choice.index] = seen.get(choice.index, "") + (choice.delta.content or "")
    assert seen == {0: "pong", 1: "pong"}, seen


def stop():
    assert ask("Reply with exactly: one STOP two", stop=["STOP"]).choices[0].message.content == "one "


def structured():
    class Weather(BaseModel):
        city: str
        celsius: float

    answer = client.chat.completions.parse(
        model="codex-local",
        messages=[{"role": "user", "content": "weather?"}],
        response_format=Weather,
    )
    assert answer.choices[0].message.parsed == Weather(city="text", celsius=1.5)
    answer = ask('Reply with exactly: {"ok": true}', response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content) == {"ok": True}
    assert raises(openai.APIStatusError, lambda: ask("no JSON", response_format={"type": "json_object"})).code == "invalid_json_output"


def images():
    answer = client.chat.completions.create(
        model="codex-local",
        messages=[{"role": "user", "content": [
            {"type": "text", "text": "Reply with exactly: seen"},
            {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        ]}],
    )
    assert "seen" in answer.choices[0].message.content


def errors():
    wrong = client.with_options(api_key="wrong")
    error = raises(openai.AuthenticationError, lambda: wrong.models.list())
    assert error.code == "invalid_api_key" and error.type == "invalid_request_error"
    error = raises(openai.BadRequestError, lambda: ask("hi", reasoning_effort="turbo"))
    assert error.param == "reasoning_effort" and error.request_id
    assert raises(openai.RateLimitError, lambda: ask("[[usage-limit]]")).code == "insufficient_quota"
    assert raises(openai.RateLimitError, lambda: ask("[[fail=429]]", stream=True)).code == "rate_limit_exceeded"
    assert raises(openai.InternalServerError, lambda: ask("[[fail=500]]")).status_code == 502
    assert raises(openai.InternalServerError, lambda: ask("[[cut]] half")).status_code == 502
    error = raises(openai.NotFoundError, lambda: client.embeddings.create(model="x", input="y"))
    assert "A Codex plan has no embeddings" in error.message, error.message
    raises(openai.NotFoundError, lambda: client.moderations.create(input="y"))
    raises(openai.NotFoundError, lambda: client.images.generate(prompt="y"))
    raises(openai.NotFoundError, lambda: client.files.list())


def responses():
    def asked(text, **more):
        return client.responses.create(model="codex-local", input=text, **more)

    answer = asked("Reply with exactly: pong", instructions="Be brief.")
    assert answer.output_text == "pong" and answer.status == "completed"
    assert answer.usage.input_tokens == 11 and answer.usage.total_tokens == 18
    assert answer.usage.input_tokens_details.cached_tokens == 3
    assert answer.usage.output_tokens_details.reasoning_tokens == 2
    assert answer.id.startswith("resp_") and answer._request_id and answer.store is False

    events = list(asked("Reply with exactly: one two three", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two three"
    with client.responses.stream(model="codex-local", input="Reply with exactly: one two") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == "one two"

    # The history as the library gives it back.
    again = client.responses.create(model="codex-local", input=[
        {"role": "user", "content": "one"}, *answer.output,
        {"role": "user", "content": [{"type": "input_text", "text": "Reply with exactly: three"},
                                     {"type": "input_image", "image_url": PNG, "detail": "auto"}]},
    ])
    assert "three" in again.output_text

    class Weather(BaseModel):
        city: str
        celsius: float

    answer = client.responses.parse(model="codex-local", input="weather?", text_format=Weather)
    assert answer.output_parsed == Weather(city="text", celsius=1.5)

    error = raises(openai.BadRequestError, lambda: asked("x", previous_response_id="resp_1"))
    assert error.param == "previous_response_id" and error.code == "unsupported_parameter"
    raises(openai.RateLimitError, lambda: asked("[[fail=429]]", stream=True))
    raises(openai.NotFoundError, lambda: client.responses.retrieve("resp_1"))


def completions():
    def asked(prompt, **more):
        return client.completions.create(model="codex-local", prompt=prompt, **more)

    answer = asked("Reply with exactly: pong", max_tokens=16)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-") and answer._request_id
    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason, choice.index, choice.logprobs) == ("pong", "stop", 0, None)
    assert answer.usage.prompt_tokens == 11 and answer.usage.total_tokens == 18
    assert asked(["Reply with exactly: one STOP two"], stop="STOP").choices[0].text == "one "
    assert [choice.text for choice in asked("Reply with exactly: pong", n=2).choices] == ["pong", "pong"]

    chunks = list(asked("Reply with exactly: one two", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 18
    choices = [chunk.choices[0] for chunk in chunks[:-1]]
    assert "".join(choice.text for choice in choices) == "one two"
    assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1

    error = raises(openai.BadRequestError, lambda: asked("x", echo=True))
    assert error.param == "echo" and error.code == "unsupported_parameter"
    assert raises(openai.RateLimitError, lambda: asked("[[fail=429]]", stream=True)).code == "rate_limit_exceeded"


def retries():
    # A failed turn is never bought again behind the user's back, whatever the library's habit.
    counted = []
    eager = OpenAI(max_retries=3, timeout=60)
    send = eager._client.send
    eager._client.send = lambda *args, **kwargs: (counted.append(1), send(*args, **kwargs))[1]
    raises(openai.RateLimitError, lambda: eager.chat.completions.create(
        model="codex-local", messages=[{"role": "user", "content": "[[fail=429]]"}]
    ))
    raises(openai.InternalServerError, lambda: eager.chat.completions.create(
        model="codex-local", messages=[{"role": "user", "content": "[[fail=500]]"}]
    ))
    assert len(counted) == 2, counted


def abort():
    # Leaves a turn that hangs upstream once the test, which can see it there, says so.
    async def leave():
        call = asyncio.create_task(AsyncOpenAI(max_retries=0).chat.completions.create(
            model="codex-local", messages=[{"role": "user", "content": "[[hang]]"}]
        ))
        await asyncio.to_thread(sys.stdin.readline)
        assert not call.done()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()

    asyncio.run(leave())


for test in (models, whole, history, streamed, choices, stop, structured, images, errors, responses, completions, retries, abort):
    test()
    print(f"openai-python {openai.__version__}: {test.__name__} ok", flush=True)
