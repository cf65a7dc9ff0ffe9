"""A page of the Lab: a step of the learning path or a pitfall, as files of `lab/steps/` and `lab/pitfalls/` have it.

Its sentences are in English and Bulgarian, so that a teacher can change them without code. The page's template names
those of `texts`; `docs/lab.md` says so.
"""

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.features.lab.rules.questions import Text, Topic


class Lesson(BaseModel):
    """The sentences of a step or a pitfall."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    title: Text
    """What the page shows, as a finding."""
    lead: Text
    """Three sentences that explain it."""
    about: Text
    """A line on the Lab's start."""
    minutes: int = Field(ge=1, le=60)
    """What it takes a learner."""
    question: str
    """Id of the question before continuing."""
    texts: dict[str, Text] = {}
    """Sentences of its page by name; they may hold values as `%(name)s`."""


class RecapLine(BaseModel):
    """A sentence of the recap, with what shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    text: Text
    topics: tuple[Topic, ...] = Field(min_length=1)
    """Steps and pitfalls."""


RECAP = TypeAdapter(tuple[RecapLine, ...])
