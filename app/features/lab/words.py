"""Words for the Lab: topics, ratings, intervals, and the values that questions about the learner's own runs name."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from babel.dates import format_date, format_timedelta
from babel.numbers import format_decimal

from app.features.lab.rules.questions import ChoiceQuestion, Facts, OrderQuestion, Question, Text, Topic, filled
from app.features.lab.rules.review import Rating
from app.words.format import NBSP, count, decimal, memory
from app.words.i18n import gettext as _
from app.words.i18n import language, marked

TOPICS: dict[Topic, str] = {
    Topic.BEFORE: marked("Before you begin"),
    Topic.STEP_1: marked("Transformers and fine-tuning"),
    Topic.STEP_2: marked("Low-rank approximation"),
    Topic.STEP_3: marked("LoRA inside a layer"),
    Topic.STEP_4: marked("Techniques of PEFT"),
    Topic.STEP_5: marked("Full fine-tuning or PEFT"),
    Topic.MEMORY: marked("Out of memory"),
    Topic.RANK: marked("Rank too high"),
    Topic.FREEZING: marked("Wrong freezing"),
    Topic.MODULES: marked("Incompatible modules"),
    Topic.VALIDATION: marked("Too little validation"),
}
KINDS = {
    "single": marked("one answer"),
    "multiple": marked("all that apply"),
    "number": marked("a number"),
    "order": marked("an order"),
    "open": marked("in your own words"),
}
RATINGS = {
    Rating.AGAIN: marked("Again"),
    Rating.HARD: marked("Hard"),
    Rating.GOOD: marked("Good"),
    Rating.EASY: marked("Easy"),
}
_BYTES = {"lora", "full"}
_POINTS = {"low", "high", "margin"}


def topic_name(topic: Topic) -> str:
    """Of a question, a step or a pitfall."""
    return _(TOPICS[topic])


def question_kind(question: Question) -> str:
    """How a question is answered."""
    return _(KINDS[question.kind])


def rating_name(rating: Rating) -> str:
    return _(RATINGS[rating])


def interval(time: timedelta) -> str:
    """The time until a question comes again: `10 minutes`, `8 days`."""
    return format_timedelta(time, threshold=1.4, locale=language())


def day(moment: datetime) -> str:
    """A date of the near future, in this machine's zone: `7 Dec`."""
    return format_date(moment.astimezone().date(), "d MMM" if language() == "en" else "d MMMM", locale=language())


def right_number(number: float) -> str:
    """The answer to a question: `6,144`, `4.24`."""
    return decimal(number, 0 if number == int(number) else 2)


def scale_text(scale: float) -> str:
    """alpha / r: `4`, `0.125`."""
    return format_decimal(scale, "#,##0.####", locale=language())


def difference(value: float) -> str:
    """Of two outputs: `0`, `4.8 × 10⁻⁶`, `2.7`."""
    if value == 0 or value >= 0.01:
        return decimal(value, 1 if value else 0)
    digits, _e, power = f"{value:.1e}".partition("e")
    exponent = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{decimal(float(digits), 1)}{NBSP}×{NBSP}10{exponent}"


def question_text(question: Question, facts: Facts | None = None) -> str:
    """What a question asks."""
    return spoken(question.text, facts)


def given_text(question: Question, given: Sequence[str]) -> str:
    """An answer as it was given: the texts of choices, items in their order, or what was entered."""
    match question:
        case ChoiceQuestion():
            places = [int(place) for place in given if place.isdecimal() and int(place) < len(question.choices)]
            return "; ".join(spoken(question.choices[place]) for place in places)
        case OrderQuestion():
            ranked = sorted(zip(map(int, given), question.items, strict=True), key=lambda pair: pair[0])
            return " → ".join(spoken(item) for _rank, item in ranked)
        case _:
            return ", ".join(given)


def spoken(text: Text, facts: Facts | None = None) -> str:
    """A sentence in the language of the page, with the values that it names."""
    return filled(text, language(), Facts(facts.answer, _shown(facts)) if facts else None)


def _shown(facts: Facts) -> dict[str, str | float]:
    return {name: _value(name, value) for name, value in facts.values.items()}


def _value(name: str, value: str | float) -> str:
    if isinstance(value, str):
        return value
    if name in _BYTES:
        return memory(value)
    return decimal(value, 1) if name in _POINTS else count(int(value)) if name != "run" else str(int(value))


FILTERS = (
    *(topic_name, question_kind, rating_name, question_text, given_text, spoken),
    *(interval, day, right_number, scale_text, difference),
)
