"""Questions of the Lab, as files of `lab/questions/` have them, and how an answer is judged.

A question is in English and Bulgarian. A question with `needs` is about the learner's own runs: its answer, and the
values that its sentences name, come from `app.features.lab.services.learner.facts`. `docs/lab.md` documents the files
for teachers."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from app.domain.messages import Message

PLACEHOLDER = re.compile(r"%\((\w+)\)s")
ID = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class Topic(StrEnum):
    """What a question is about: what a learner knew before, a step of the learning path, or a pitfall."""

    BEFORE = "before"
    STEP_1 = "step-1"
    STEP_2 = "step-2"
    STEP_3 = "step-3"
    STEP_4 = "step-4"
    STEP_5 = "step-5"
    MEMORY = "memory"
    RANK = "rank"
    FREEZING = "freezing"
    MODULES = "modules"
    VALIDATION = "validation"


class Need(StrEnum):
    """What a question needs of the learner's runs."""

    LORA_TRAINABLE = "lora-trainable"
    """The newest successful run with LoRA. The answer is the share of its parameters that it trained, in percent."""
    MEMORY_SHARE = "memory-share"
    """The newest study with results of full fine-tuning and LoRA. The answer is LoRA's peak memory in percent."""
    DIFFERENCE = "difference"
    """The same. The answer is what the interval of LoRA minus full implies
    (`app.domain.comparison.statistics.verdict.word`)."""


NAMES: Mapping[Need, frozenset[str]] = {
    Need.LORA_TRAINABLE: frozenset({"run", "rank", "trainable", "total"}),
    Need.MEMORY_SHARE: frozenset({"study", "lora", "full"}),
    Need.DIFFERENCE: frozenset({"study", "low", "high", "margin"}),
}
"""Values that sentences of a question with a need may name."""


@dataclass(frozen=True)
class Facts:
    """What a need found."""

    answer: float | str
    values: Mapping[str, str | float] = field(default_factory=dict)
    """Bytes for memory, points for differences."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Text(_Strict):
    """A sentence in both languages."""

    en: str = Field(min_length=1)
    bg: str = Field(min_length=1)

    def spoken(self, language: str) -> str:
        """In a language; in English if it is neither."""
        return self.bg if language == "bg" else self.en


class Choice(Text):
    """An answer to choose."""

    right: bool = False
    when: str = ""
    """Of a question with a need: right if this is its answer."""


class _Question(_Strict):
    id: str = Field(pattern=ID, max_length=60)
    topic: Topic
    text: Text
    needs: Need | None = None
    course: int | None = Field(default=None, ge=1, le=7)
    """Number in the quiz of the course."""
    after_days: int | None = Field(default=None, ge=1)
    """Of the spaced review of the course: asked so many days after the learner began."""

    @property
    def sentences(self) -> list[Text]:
        """Every text that may name values."""
        return [self.text]

    @model_validator(mode="after")
    def _names_known_values(self) -> Self:
        known = NAMES[self.needs] if self.needs else frozenset()
        for sentence in self.sentences:
            for words in (sentence.en, sentence.bg):
                if unknown := set(PLACEHOLDER.findall(words)) - known:
                    raise ValueError(f"{self.id} names {sorted(unknown)}; known are {sorted(known)}")
        return self


class _Explained(_Question):
    because: Text
    """Why the answer is right, shown after answering."""

    @property
    def sentences(self) -> list[Text]:
        return [self.text, self.because]


class ChoiceQuestion(_Explained):
    """Choose one answer, or all that are right."""

    kind: Literal["single", "multiple"]
    choices: tuple[Choice, ...] = Field(min_length=2, max_length=8)

    @model_validator(mode="after")
    def _has_right_and_wrong(self) -> Self:
        right = sum(choice.right for choice in self.choices)
        if self.needs:
            if right or not all(choice.when for choice in self.choices):
                raise ValueError(f"{self.id}: each choice of a question with `needs` has `when`, and none has `right`")
        elif any(choice.when for choice in self.choices):
            raise ValueError(f"{self.id}: `when` is for questions with `needs`")
        elif not 1 <= right < len(self.choices) or (self.kind == "single" and right > 1):
            raise ValueError(f"{self.id}: one choice of `single` is right, and not all of `multiple`")
        return self

    def shuffled(self) -> list[int]:
        """Places of the choices in the order in which they are shown."""
        return _shuffled(self.id, len(self.choices))

    def right(self, facts: Facts | None = None) -> set[int]:
        """Places of the right choices, from 0."""
        return {
            place
            for place, choice in enumerate(self.choices)
            if (choice.when == facts.answer if facts else choice.right)
        }

    def judged(self, given: Sequence[str], facts: Facts | None = None) -> bool:
        """Whether exactly the right choices were given, by their places."""
        return {int(place) for place in given if place.isdecimal()} == self.right(facts)


class NumberQuestion(_Explained):
    """Enter a number."""

    kind: Literal["number"]
    answer: float | None = None
    """None for a question with a need."""
    tolerance: float = Field(default=0.0, ge=0)
    """Absolute."""
    tolerance_percent: float = Field(default=0.0, ge=0)
    """Of the answer."""
    unit: Text | None = None

    @model_validator(mode="after")
    def _has_an_answer(self) -> Self:
        if (self.answer is None) != (self.needs is not None):
            raise ValueError(f"{self.id}: a number has an `answer`, or it has `needs`")
        return self

    def expected(self, facts: Facts | None = None) -> float:
        """The right number."""
        found = facts.answer if facts else self.answer
        return float(found if found is not None else "nan")

    def judged(self, given: float, facts: Facts | None = None) -> bool:
        """Whether a number is right within the tolerance."""
        expected = self.expected(facts)
        return abs(given - expected) <= max(self.tolerance, abs(expected) * self.tolerance_percent / 100) + 1e-9


class OrderQuestion(_Explained):
    """Put items in order."""

    kind: Literal["order"]
    items: tuple[Text, ...] = Field(min_length=3, max_length=8)
    """In the right order."""

    def shuffled(self) -> list[int]:
        """Places of the items in the order in which they are shown, which is never the right one."""
        places = _shuffled(self.id, len(self.items))
        return places if places != sorted(places) else places[::-1]

    def judged(self, given: Sequence[int]) -> bool:
        """Whether the items were given in the right order: `given[i]` is the rank of item i, from 1."""
        return list(given) == list(range(1, len(self.items) + 1))


class OpenQuestion(_Question):
    """Answer in one's own words, and judge oneself against a model answer."""

    kind: Literal["open"]
    model: Text

    @property
    def sentences(self) -> list[Text]:
        """Text and model answer."""
        return [self.text, self.model]


Question = Annotated[ChoiceQuestion | NumberQuestion | OrderQuestion | OpenQuestion, Field(discriminator="kind")]
QUESTIONS: TypeAdapter[list[Question]] = TypeAdapter(list[Question])


def _shuffled(seed: str, count: int) -> list[int]:
    """The same for every learner, so that an answer can be talked about by its place."""
    places = list(range(count))
    random.Random(seed).shuffle(places)
    return places


def filled(text: Text, language: str, facts: Facts | None) -> str:
    """A sentence in a language, with the values that it names."""
    words = text.spoken(language)
    return str(Message(words, **facts.values)) if facts else words
