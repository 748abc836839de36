"""pydantic-ai, unmodified, against the proxy: its Responses model and its Anthropic model.

Run by tests/it/libraries.rs; ends with a traceback on the first surprise.
"""

import asyncio
import sys

# The folder of this script would hide the library, which has its name.
sys.path.pop(0)

from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError

# The environment names servers and keys; retries are the library's own.


class Report(BaseModel):
    """What the weather is."""

    city: str
    wet: bool


def agent(model, **more):
    made = Agent(model, instructions="Look things up.", **more)

    @made.tool_plain
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    return made


async def whole(name, model):
    reporter = agent(model)
    first = await reporter.run(f"mark-{name}-whole: weather in Oslo and Rome")
    assert first.output == "Rain in both.", first.output
    second = await reporter.run("Are you sure?", message_history=first.all_messages())
    assert second.output == "Quite.", second.output


async def streamed(name, model):
    reporter = agent(model)
    async with reporter.run_stream(f"mark-{name}-streamed: weather in Oslo and Rome") as result:
        text = "".join([delta async for delta in result.stream_text(delta=True)])
    assert text == "Rain in both.", text
    again = await reporter.run("Are you sure?", message_history=result.all_messages())
    assert again.output == "Quite.", again.output


async def structured(model):
    result = await agent(model, output_type=Report).run("mark-structured: weather in Oslo")
    assert result.output == Report(city="Oslo", wet=True), result.output


async def fails(name, model):
    try:
        await agent(model).run(f"mark-fails-{name}")
    except ModelHTTPError as error:
        assert error.status_code == 502, error
    else:
        raise AssertionError("ModelHTTPError expected")


async def main():
    for name, model in [
        ("openai", "openai-responses:codex-local"),
        ("anthropic", "anthropic:claude-opus-4-8"),
    ]:
        print("pydantic-ai", name, file=sys.stderr)
        await whole(name, model)
        await streamed(name, model)
        if name == "openai":
            await structured(model)
        await fails(name, model)


asyncio.run(main())
