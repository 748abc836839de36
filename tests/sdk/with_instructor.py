"""instructor, unmodified, against the proxy: its modes in the OpenAI and the Anthropic format.

Run by tests/it/toolkits.rs, by `connect`; ends with a traceback on the first surprise.
"""

import sys

import anthropic
import instructor
import openai
from instructor import Mode
from instructor.core import InstructorRetryException
from pydantic import BaseModel, field_validator

# The environment names servers and keys; retries are the libraries' own.


class Report(BaseModel):
    """What the weather is."""

    city: str
    wet: bool

    @field_validator("city")
    @classmethod
    def known(cls, city):
        if city == "Atlantis":
            raise ValueError("there is no such city")
        return city


OSLO = Report(city="Oslo", wet=True)
OPENAI = {"model": "codex-local"}
ANTHROPIC = {"model": "claude-opus-4-8", "max_tokens": 1000}
MODES = [
    (Mode.TOOLS, instructor.from_openai, openai.OpenAI, OPENAI),
    (Mode.PARALLEL_TOOLS, instructor.from_openai, openai.OpenAI, OPENAI),
    (Mode.JSON, instructor.from_openai, openai.OpenAI, OPENAI),
    (Mode.JSON_SCHEMA, instructor.from_openai, openai.OpenAI, OPENAI),
    (Mode.MD_JSON, instructor.from_openai, openai.OpenAI, OPENAI),
    (Mode.RESPONSES_TOOLS, instructor.from_openai, openai.OpenAI, OPENAI),
    (Mode.ANTHROPIC_TOOLS, instructor.from_anthropic, anthropic.Anthropic, ANTHROPIC),
    (Mode.ANTHROPIC_JSON, instructor.from_anthropic, anthropic.Anthropic, ANTHROPIC),
]


def user(text):
    return [{"role": "user", "content": text}]


def refused(mode, marker, status, create, more):
    """A failed turn is told as what it is, and is not asked again: that is counted upstream."""
    try:
        create(response_model=Report, messages=user(f"mark-{marker}-{mode}"), **more)
    except (InstructorRetryException, openai.APIStatusError, anthropic.APIStatusError) as error:
        while not hasattr(error, "status_code"):
            error = error.__cause__ or error.args[0]
        assert error.status_code == status, error
    else:
        raise AssertionError(f"{status} expected")


for kind, wrap, library, more in MODES:
    mode = kind.name.lower()
    print("instructor", mode, file=sys.stderr)
    client = wrap(library(), mode=kind)
    create = client.create
    if kind is Mode.PARALLEL_TOOLS:
        from collections.abc import Iterable

        both = list(create(response_model=Iterable[Report], messages=user(f"mark-both-{mode}"), **more))
        assert [report.city for report in both] == ["Oslo", "Rome"], both
        continue
    answer = create(response_model=Report, messages=user(f"mark-whole-{mode}"), **more)
    assert answer.model_dump() == OSLO.model_dump(), answer
    # What does not hold is asked for again, with what was wrong with it.
    answer = create(response_model=Report, messages=user(f"mark-again-{mode}"), **more)
    assert answer.model_dump() == OSLO.model_dump(), answer
    parts = list(client.create_partial(response_model=Report, messages=user(f"mark-streamed-{mode}"), **more))
    assert parts[-1].model_dump() == OSLO.model_dump(), parts
    refused(mode, "quota", 429, create, more)
    refused(mode, "broken", 502, create, more)
