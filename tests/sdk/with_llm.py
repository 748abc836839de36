"""llm, unmodified, against the proxy: the model of its file, which `connect llm` prints, and llm-anthropic.

Run by tests/it/toolkits.rs; ends with a traceback on the first surprise.
"""

import base64
import sys

import anthropic
import llm
import openai
from pydantic import BaseModel

from expect import raises

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


class Report(BaseModel):
    """What the weather is."""

    city: str
    wet: bool


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def loop(name, model, stream):
    how = "streamed" if stream else "whole"
    chain = model.conversation().chain
    answer = chain(f"mark-{name}-{how}: weather in Oslo and Rome", tools=[weather], stream=stream)
    # Asked for its text twice it would ask the model twice. llm-anthropic makes a space of calls without words.
    text = answer.text().strip()
    assert text == "Rain in both.", text
    if stream:
        return
    answer = model.conversation().chain(f"mark-ten-{name}", tools=[weather], chain_limit=12, stream=stream)
    text = answer.text().strip()
    assert text == "All of them.", text


def other(name, model, errors):
    picture = llm.Attachment(type="image/png", content=base64.b64decode(PNG))
    answer = model.prompt(f"Reply with exactly: seen\nBy {name}.", attachments=[picture])
    assert answer.text() == "seen", answer.text()
    for marker, kind in errors:
        for stream in False, True:
            text = f"mark-{marker}-{name}-{'streamed' if stream else 'whole'}"
            raises(kind, lambda text=text, stream=stream: model.prompt(text, stream=stream).text())
    response = iter(model.prompt(f"mark-left-{name}", stream=True))
    assert next(response)
    response.close()


ours = llm.get_model("codex-local")
for stream in False, True:
    loop("chat", ours, stream)
answer = ours.prompt("mark-structured-chat: weather in Oslo", schema=Report)
assert Report.model_validate_json(answer.text()) == Report(city="Oslo", wet=True), answer.text()
kinds = [("no-model", openai.NotFoundError), ("quota", openai.RateLimitError), ("broken", openai.InternalServerError)]
other("chat", ours, kinds)

theirs = llm.get_model(sys.argv[1])
for stream in False, True:
    loop("anthropic", theirs, stream)
kinds = [
    ("no-model", anthropic.NotFoundError),
    ("quota", anthropic.RateLimitError),
    ("broken", anthropic.InternalServerError),
]
other("anthropic", theirs, kinds)
