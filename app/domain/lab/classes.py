"""Classes of the Lab: names, and what a teacher may be told of learners."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.domain.names import Line

MAX_NAME = 120
LEAST_SHARING = 3
"""Learners who share their answers before wrong ones are shown: of fewer, a teacher could tell whose they are."""
MOST_WRONG = 10
MOST_MEMBERS = 500

LearnerName = Annotated[Line, Field(min_length=1, max_length=60)]


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
