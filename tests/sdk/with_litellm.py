"""LiteLLM, unmodified, against the proxy: its chat route and its Anthropic route.

Run by tests/it/toolkits.rs, by `connect`; ends with a traceback on the first surprise.
"""

import json
import sys

import litellm
from litellm import completion
from pydantic import BaseModel

# The environment names servers and keys; retries are the library's own.
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Report(BaseModel):
    """What the weather is."""

    city: str
    wet: bool


def user(text):
    return {"role": "user", "content": text}


def whole(**request):
    return completion(**request)


def streamed(**request):
    return litellm.stream_chunk_builder(list(completion(stream=True, **request)), messages=request["messages"])


def ran(answer):
    """The answer's message, and what its calls give."""
    message = answer.choices[0].message
    results = [
        {
            "role": "tool",
            "tool_call_id": call.id,
            "content": f"rain in {json.loads(call.function.arguments)['city']}",
        }
        for call in message.tool_calls or []
    ]
    return message, results


def loop(model, marker, ask):
    said = [user(f"{marker}: weather in Oslo and Rome")]
    message, results = ran(ask(model=model, messages=said, tools=[WEATHER]))
    assert len(results) == 2, message
    said += [message.model_dump(), *results]
    answer = ask(model=model, messages=said, tools=[WEATHER])
    assert answer.choices[0].message.content == "Rain in both.", answer
    assert answer.choices[0].finish_reason == "stop", answer
    said += [answer.choices[0].message.model_dump(), user("Are you sure?")]
    answer = ask(model=model, messages=said, tools=[WEATHER])
    assert answer.choices[0].message.content == "Quite.", answer


def ten(model, marker):
    said = [user(f"{marker}: weather in ten cities")]
    for _ in range(10):
        message, results = ran(whole(model=model, messages=said, tools=[WEATHER]))
        assert len(results) == 1, message
        said += [message.model_dump(), *results]
    assert whole(model=model, messages=said, tools=[WEATHER]).choices[0].message.content == "All of them."


def pictures(model, name):
    content = [
        {"type": "text", "text": f"Reply with exactly: seen\nBy {name}."},
        {"type": "image_url", "image_url": {"url": PNG}},
    ]
    assert whole(model=model, messages=[user(content)]).choices[0].message.content == "seen"


def structured(model, marker):
    answer = completion(model=model, messages=[user(f"{marker}: weather in Oslo")], response_format=Report)
    assert Report.model_validate_json(answer.choices[0].message.content) == Report(city="Oslo", wet=True), answer


def raises(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, repr(error)
        return error
    raise AssertionError(f"{kind.__name__} expected")


def fails(model, name):
    raises(
        litellm.AuthenticationError,
        lambda: completion(model=model, messages=[user("x")], api_key="wrong"),
    )
    kinds = [("no-model", litellm.NotFoundError), ("quota", litellm.RateLimitError), ("broken", litellm.BadGatewayError)]
    for marker, kind in kinds:
        for ask in whole, streamed:
            text = f"mark-{marker}-{name}-{ask.__name__}"
            raises(kind, lambda ask=ask, text=text: ask(model=model, messages=[user(text)]))


def leaves(model, name):
    stream = completion(model=model, messages=[user(f"mark-left-{name}")], stream=True)
    assert any(chunk.choices[0].delta.content for chunk in stream)
    stream.close()


for name, model in [("chat", "openai/codex-local"), ("anthropic", "anthropic/claude-opus-4-8")]:
    print("LiteLLM", name, file=sys.stderr)
    loop(model, f"mark-{name}-whole", whole)
    loop(model, f"mark-{name}-streamed", streamed)
    ten(model, f"mark-ten-{name}")
    pictures(model, name)
    structured(model, f"mark-structured-{name}")
    fails(model, name)
    leaves(model, name)
