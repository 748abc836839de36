"""openai-agents, unmodified and with its defaults, against the proxy. Run by tests/it/agents.rs; ends with a traceback on the first surprise."""

import asyncio
import importlib.metadata
import sys

from agents import Agent, Runner, function_tool
from pydantic import BaseModel

# OPENAI_BASE_URL and OPENAI_API_KEY come from the test. The model, the API and the retries are the library's.
asked = []


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    asked.append(("weather", city))
    return f"rain in {city}"


@function_tool
def populace(city: str, year: int = 2020) -> int:
    """How many live in a city."""
    asked.append(("populace", city, year))
    return 700_000


class Report(BaseModel):
    city: str
    wet: bool


def agent(**more):
    return Agent(name="Reporter", instructions="Look things up.", tools=[weather, populace], **more)


CALLS = [("weather", "Oslo"), ("populace", "Oslo", 2020), ("weather", "Rome")]


def check(result, marker):
    assert result.final_output == "Wet, both.", (marker, result.final_output)
    assert sorted(asked) == sorted(CALLS), (marker, asked)
    usage = result.context_wrapper.usage
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (3, 33, 21), (marker, usage)
    asked.clear()


async def whole():
    check(await Runner.run(agent(), "mark-whole: report on Oslo, then Rome"), "whole")


async def streamed():
    result = Runner.run_streamed(agent(), "mark-streamed: report on Oslo, then Rome")
    text, called = "", []
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
        if event.type == "run_item_stream_event" and event.name == "tool_called":
            called.append(event.item.raw_item.name)
    assert text == "Wet, both.", text
    assert called == ["weather", "populace", "weather"], called
    check(result, "streamed")


async def structured():
    first = await Runner.run(agent(output_type=Report), "mark-structured: report on Oslo")
    assert first.final_output == Report(city="Oslo", wet=True), first.final_output
    # The next turn carries all that was said and called before.
    again = first.to_input_list() + [{"role": "user", "content": "mark-again: are you sure?"}]
    second = await Runner.run(agent(), again)
    assert second.final_output == "Quite.", second.final_output


async def main():
    for step in [whole, streamed, structured]:
        print("openai-agents", importlib.metadata.version("openai-agents"), step.__name__, file=sys.stderr)
        await step()


asyncio.run(main())
