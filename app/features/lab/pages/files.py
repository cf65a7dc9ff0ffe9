"""The questions as a file for Anki, and the days on which some are due as one for calendars."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from html import escape

from icalendar import Calendar, Event

from app.features.lab.rules.questions import ChoiceQuestion, NumberQuestion, OpenQuestion, OrderQuestion, Question
from app.features.lab.services import learner as lab
from app.features.lab.services.learner import Queue
from app.features.lab.words import right_number, spoken
from app.words.i18n import ngettext

ANKI_HEADER = "#separator:tab\n#html:true\n#deck:Vezna: LoRA and PEFT\n#tags column:3\n"
"""docs.ankiweb.net/importing/text-files.html, section "File headers"."""


def anki(language: str) -> str:
    """A line for each question that is not about the learner's own runs: front, back, tag. The tag names the language,
    so that both can be in one collection."""
    lines = [
        "\t".join((_front(question), _back(question), f"vezna::{language}::{question.topic}"))
        for question in lab.library().values()
        if not question.needs
    ]
    return ANKI_HEADER + "".join(f"{line}\n" for line in lines)


def _front(question: Question) -> str:
    front = [escape(spoken(question.text))]
    if isinstance(question, ChoiceQuestion):
        front += [f"• {escape(spoken(question.choices[place]))}" for place in question.shuffled()]
    if isinstance(question, OrderQuestion):
        front += [f"• {escape(spoken(question.items[place]))}" for place in question.shuffled()]
    return "<br>".join(front)


def _back(question: Question) -> str:
    match question:
        case OpenQuestion():
            return escape(spoken(question.model))
        case NumberQuestion():
            unit = f" {spoken(question.unit)}" if question.unit else ""
            right = [right_number(question.expected()) + unit]
        case ChoiceQuestion():
            right = [spoken(question.choices[place]) for place in sorted(question.right())]
        case OrderQuestion():
            right = [f"{rank}. {spoken(item)}" for rank, item in enumerate(question.items, 1)]
    return "<br>".join([*(f"<b>{escape(line)}</b>" for line in right), escape(spoken(question.because))])


def calendar(queue: Queue, at: datetime) -> bytes:
    """An event of a day for each day on which questions are due (RFC 5545); today's has those that are overdue."""
    days = Counter(moment.astimezone().date() for moment in queue.ahead)
    if queue.due:
        days[at.astimezone().date()] += len(queue.due)
    found = Calendar()
    found.add("prodid", "-//Vezna//Lab//EN")
    found.add("version", "2.0")
    for day, count in sorted(days.items()):
        event = Event()
        event.add("uid", f"lab-{day.isoformat()}@vezna")
        event.add("dtstamp", at.astimezone(UTC))
        event.add("dtstart", day)
        event.add("dtend", day + timedelta(days=1))
        event.add("summary", ngettext("Vezna: %(num)s question is due", "Vezna: %(num)s questions are due", count))
        found.add_component(event)
    return bytes(found.to_ical())
