"""anthropic-python, unmodified, against the proxy. Run by tests/it/sdk.rs; ends with a traceback on the first surprise."""

import sys

import anthropic
from anthropic import Anthropic

from expect import raises

client = Anthropic(max_retries=0, timeout=60)  # ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY come from the test
WEATHER = {
    "name": "weather",
    "description": "Of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def ask(text, **more):
    more = {"model": "claude-opus-4-8", "max_tokens": 100, **more}
    return client.messages.create(messages=[{"role": "user", "content": text}], **more)


def models():
    assert next(iter(client.models.list())).id == "codex-local"
    assert client.models.retrieve("codex-local").type == "model"
    raises(anthropic.NotFoundError, lambda: client.models.retrieve("no-such"))


def whole():
    answer = ask("Reply with exactly: pong", system="Be brief.")
    assert answer.content[0].text == "pong" and answer.stop_reason == "end_turn"
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (8, 3, 7), usage
    assert answer.id.startswith("msg_") and answer._request_id


def streamed():
    with client.messages.stream(
        model="codex-local",
        max_tokens=100,
        messages=[{"role": "user", "content": "Reply with exactly: one two"}],
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "one two" and final.content[0].text == text, text
    assert final.usage.output_tokens == 7 and final.stop_reason == "end_turn"


def counted():
    count = client.messages.count_tokens(model="codex-local", messages=[{"role": "user", "content": "12345678"}])
    assert count.input_tokens == 2


def tools():
    first = ask("[[anthropic-tool]] weather in Oslo", tools=[WEATHER])
    call = next(block for block in first.content if block.type == "tool_use")
    assert first.stop_reason == "tool_use" and call.input == {"city": "Oslo"}, first
    second = client.messages.create(
        model="codex-local",
        max_tokens=100,
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": "[[anthropic-tool]] weather in Oslo"},
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}]},
        ],
    )
    assert second.content[0].text == "It rains.", second


def tool_runner():
    # Asks for a thread first, and goes on without when it is told that there are none.
    if not hasattr(anthropic, "beta_tool"):
        return

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Of a city."""
        return f"rain in {city}"

    statuses = []
    send = client._client.send

    def counting(*args, **kwargs):
        answer = send(*args, **kwargs)
        statuses.append(answer.status_code)
        return answer

    client._client.send = counting
    runner = client.beta.messages.tool_runner(
        model="codex-local",
        max_tokens=100,
        tools=[weather],
        messages=[{"role": "user", "content": "[[anthropic-runner]] weather in Oslo"}],
    )
    answers = list(runner)
    client._client.send = send
    assert [answer.stop_reason for answer in answers] == ["tool_use", "end_turn"], answers
    assert answers[-1].content[0].text == "It rains on.", answers[-1]
    # The older ones ask for no thread.
    refused = [400] if int(anthropic.__version__.split(".")[0]) >= 2 else []
    assert statuses == [*refused, 200, 200], statuses


def typed_errors():
    bad = raises(anthropic.BadRequestError, lambda: ask("x", max_tokens=0))
    assert bad.body["error"]["details"]["param"] == "max_tokens", bad.body
    other = Anthropic(api_key="wrong", max_retries=0)
    raises(
        anthropic.AuthenticationError,
        lambda: other.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]),
    )
    raises(anthropic.NotFoundError, lambda: client.get("/v1/files", cast_to=object))


for step in [models, whole, streamed, counted, tools, tool_runner, typed_errors]:
    print("anthropic-python", anthropic.__version__, step.__name__, file=sys.stderr)
    step()
