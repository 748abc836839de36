"""LangChain, unmodified, against the proxy: OpenAI's route, which is Responses for a model named codex, and Anthropic's.

Run by tests/it/libraries.rs; ends with a traceback on the first surprise.
"""

import sys

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

# The environment names servers and keys; retries are the library's own.


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


class Report(BaseModel):
    """What the weather is."""

    city: str
    wet: bool


def loop(model, marker, ask):
    said = [("user", f"{marker}: weather in Oslo and Rome")]
    answer = ask(model.bind_tools([weather]), said)
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}], answer
    said += [answer, *(weather.invoke(call) for call in answer.tool_calls)]
    answer = ask(model.bind_tools([weather]), said)
    assert answer.text == "Rain in both.", answer
    assert answer.usage_metadata["output_tokens"] == 7, answer.usage_metadata
    # And a question more, with all that was said.
    answer = ask(model, [*said, answer, ("user", "Are you sure?")])
    assert answer.text == "Quite.", answer


def whole(model, said):
    return model.invoke(said)


def streamed(model, said):
    chunks = list(model.stream(said))
    return sum(chunks[1:], chunks[0])


def structured(model):
    answer = model.with_structured_output(Report).invoke("mark-structured: weather in Oslo")
    assert answer == Report(city="Oslo", wet=True), answer


def fails(name, model, kind):
    try:
        model.invoke(f"mark-fails-{name}")
    except kind as error:
        assert error.status_code == 502, error
    else:
        raise AssertionError(f"{kind} expected")


for name, model, kind in [
    ("openai", ChatOpenAI(model="codex-local"), openai.InternalServerError),
    ("anthropic", ChatAnthropic(model="claude-opus-4-8"), anthropic.InternalServerError),
]:
    print("LangChain", name, file=sys.stderr)
    loop(model, f"mark-{name}-whole", whole)
    loop(model, f"mark-{name}-streamed", streamed)
    if name == "openai":
        structured(model)
    fails(name, model, kind)
