"""Words for data: formats of rows, what a column is to a model, kinds of columns, findings, splits."""

from app.domain.data.dataset import Split
from app.domain.data.findings import FindingCode, Severity
from app.domain.data.mapping import ColumnKind, Role
from app.domain.tasks import TASKS, Format
from app.web.i18n import gettext as _
from app.web.i18n import marked

FORMATS: dict[Format, str] = {
    "labelled": marked("texts with a label"),
    "text": marked("plain texts"),
    "prompt-completion": marked("prompts and completions"),
    "messages": marked("conversations"),
}
ROLES: dict[Role, tuple[str, str]] = {
    "text": (marked("Text"), marked("What the model reads.")),
    "label": (marked("Label"), marked("What it is to answer: words or numbers.")),
    "prompt": (marked("Prompt"), marked("What it is asked.")),
    "context": (marked("Context"), marked("Put behind the prompt, after a blank line.")),
    "completion": (marked("Completion"), marked("What it is to answer; what is learnt.")),
    "messages": (marked("Messages"), marked("Lists of turns, each with role and content.")),
}
"""Label and hint of the field for each."""
KINDS: dict[ColumnKind, str] = {
    "text": marked("text"),
    "integer": marked("whole numbers"),
    "number": marked("numbers"),
    "boolean": marked("true or false"),
    "list": marked("lists"),
    "object": marked("objects"),
    "mixed": marked("of several kinds"),
    "empty": marked("empty"),
}
SPLITS: dict[Split, str] = {
    "train": marked("train"),
    "validation": marked("validation"),
    "test": marked("test"),
}
FINDINGS: dict[FindingCode, str] = {
    "encoding": marked("Characters that were read wrongly"),
    "control-characters": marked("Control characters"),
    "formulas": marked("Formulas"),
    "very-long-field": marked("Very long fields"),
    "empty-rows": marked("Empty rows"),
    "broken-messages": marked("Broken conversations"),
    "no-assistant-turn": marked("Nothing to learn in a conversation"),
    "duplicates": marked("Repeated rows"),
    "contradictions": marked("The same text with different answers"),
    "leak": marked("The same rows in two splits"),
    "near-leak": marked("Nearly the same rows in two splits"),
    "too-few-rows": marked("Too few rows"),
    "empty-split": marked("An empty split"),
    "one-class": marked("One label only"),
    "too-many-labels": marked("Too many labels"),
    "label-once": marked("Labels seen once"),
    "label-not-trained": marked("Labels that are not trained on"),
    "label-not-tested": marked("Labels that are not tested"),
    "labels-alike": marked("Labels that look alike"),
    "imbalance": marked("Labels out of balance"),
}
SEVERITIES: dict[Severity, tuple[str, str]] = {
    "blocks": ("does_not_fit", marked("blocks")),
    "warns": ("tight", marked("keep in mind")),
    "notes": ("queued", marked("worth knowing")),
}
"""The icon, as `components/state.html` names it, and the word."""
DELIMITERS = {
    ",": marked("comma"),
    ";": marked("semicolon"),
    "\t": marked("tab"),
    "|": marked("vertical bar"),
}
DELIMITED = ("csv", "tsv")
"""Kinds of files in which fields stand between delimiters."""


def format_of(form: Format) -> str:
    """What rows of a format are."""
    return _(FORMATS[form])


def tasks_of(form: Format) -> str:
    """What can be learnt from rows of a format, in a few words."""
    return ", ".join(_(task.title) for task in TASKS.values() if form in task.formats)


def finding_of(code: FindingCode) -> str:
    """A finding's title."""
    return _(FINDINGS[code])
