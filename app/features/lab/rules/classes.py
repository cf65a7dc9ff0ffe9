"""Classes of the Lab: names, and what a teacher may be told of learners."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.validation import Line
from app.features.lab.rules.pooled import LEAST_SEEDS, MOST_SEEDS

LARGEST_ID = 2**31 - 1
MAX_NAME = 120
LEAST_SHARING = 5
"""Sharing learners that must answer a question before a teacher sees its wrong answers: with fewer, the teacher could
guess whose they are. Statistical offices suppress cells of frequency tables below three to five; a teacher knows the
people, hence five."""
MOST_WRONG = 10
MOST_MEMBERS = 500

LearnerName = Annotated[Line, Field(min_length=1, max_length=MAX_NAME)]


class NewClass(BaseModel):
    """A class that a teacher makes."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: Annotated[Line, Field(min_length=1, max_length=MAX_NAME)]


class Joining(BaseModel):
    """What a learner who joins tells the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: LearnerName
    shares_progress: bool = False
    shares_answers: bool = False


class ClassStudy(BaseModel):
    """The study that every learner of a class runs: a study of the team, or one of the Lab's plans on the sample."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    study_id: Annotated[int, Field(ge=1, le=LARGEST_ID)] | None = None
    plan: Literal["", "full-or-lora", "ranks"] = ""
    planned_seeds: int = Field(ge=LEAST_SEEDS, le=MOST_SEEDS)
    """Complete seeds, of as many learners, that give the verdict."""
