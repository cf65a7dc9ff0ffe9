"""Words for data: formats, roles and kinds of columns, splits, findings, states."""

from collections.abc import Iterable

from app.domain.data.dataset import Split
from app.domain.data.findings import FindingCode
from app.domain.data.guesses.mapping import ColumnKind, Role
from app.domain.tasks import ANSWERING, TASKS, Format, Task
from app.store.data.queries import Uses
from app.words.format import capitalized, count
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext

FORMATS: dict[Format, str] = {
    "labelled": marked("labelled texts"),
    "tagged": marked("tagged words"),
    "text": marked("plain texts"),
    "prompt-completion": marked("prompts and completions"),
    "messages": marked("conversations"),
    "query-passage": marked("queries and passages"),
    "preference": marked("preference pairs"),
    "preference-messages": marked("preference pairs in conversations"),
    "labelled-images": marked("labelled images"),
}
ROLES: dict[Role, tuple[str, str]] = {
    "text": (marked("Text"), marked("The model's input.")),
    "label": (marked("Label"), marked("The class to predict: strings or numbers.")),
    "tokens": (marked("Tokens"), marked("Lists of words, or words between white space.")),
    "tags": (marked("Tags"), marked("Lists with a tag for each word: IOB2 or plain tags.")),
    "prompt": (marked("Prompt"), marked("The model's input.")),
    "context": (marked("Context"), marked("Appended to the prompt after a blank line.")),
    "completion": (marked("Completion"), marked("The output to learn.")),
    "messages": (marked("Messages"), marked("Lists of objects with role and content.")),
    "query": (marked("Query"), marked("The text to search with.")),
    "passage": (marked("Passage"), marked("A text that the query should find.")),
    "chosen": (marked("Chosen"), marked("The better answer.")),
    "rejected": (marked("Rejected"), marked("The worse answer.")),
    "image": (marked("Image"), marked("PNG, JPEG and the like, as bytes.")),
    "group": (marked("Group"), marked("Rows of one user, document, conversation or template. They stay in one split.")),
}
"""Label and hint of each role's field."""
KINDS: dict[ColumnKind, str] = {
    "text": marked("text"),
    "integer": marked("integers"),
    "number": marked("numbers"),
    "boolean": marked("booleans"),
    "list": marked("lists"),
    "object": marked("objects"),
    "image": marked("images"),
    "mixed": marked("mixed types"),
    "empty": marked("empty"),
}
SPLITS: dict[Split, str] = {
    "train": marked("train"),
    "validation": marked("validation"),
    "test": marked("test"),
}
FINDINGS: dict[FindingCode, str] = {
    "encoding": marked("Guessed encoding"),
    "control-characters": marked("Control characters"),
    "formulas": marked("Spreadsheet formulas"),
    "very-long-field": marked("Very long fields"),
    "duplicate-keys": marked("Duplicate keys"),
    "empty-rows": marked("Empty rows"),
    "broken-messages": marked("Malformed conversations"),
    "no-assistant-turn": marked("Conversations without an answer"),
    "unsupported-chat": marked("Unsupported parts of conversations"),
    "unread-chat-fields": marked("Unread fields of messages"),
    "not-a-number": marked("NaN or infinity as a label"),
    "broken-words": marked("Malformed lists of words"),
    "tags-mismatch": marked("Tags that do not match the words"),
    "broken-tags": marked("Tags that are not IOB2"),
    "broken-images": marked("Unreadable images"),
    "skipped-files": marked("Skipped files"),
    "tag-scheme": marked("Another tag scheme"),
    "tags-converted": marked("Converted tags"),
    "tags-are-numbers": marked("Numbers as tags"),
    "no-prompt": marked("Pairs without a prompt"),
    "broken-pairs": marked("Malformed pairs"),
    "equal-answers": marked("Pairs of equal answers"),
    "guessed-prompts": marked("Guessed prompts"),
    "contradicting-pairs": marked("Contradicting pairs"),
    "shared-prompts": marked("Test pairs with one prompt"),
    "shared-passages": marked("Test queries with one passage"),
    "longer-chosen": marked("Length bias"),
    "shorter-chosen": marked("Length bias"),
    "duplicates": marked("Duplicates"),
    "contradictions": marked("Contradictory labels"),
    "leak": marked("Rows in two splits"),
    "shared-groups": marked("Groups in two splits"),
    "near-leak": marked("Near-duplicates across splits"),
    "too-few-rows": marked("Too few rows"),
    "too-few-groups": marked("Too few groups"),
    "empty-split": marked("Empty split"),
    "one-class": marked("Single label"),
    "too-many-labels": marked("Too many labels"),
    "label-once": marked("Labels with one row"),
    "label-not-trained": marked("Labels missing from train"),
    "label-not-tested": marked("Labels missing from test"),
    "labels-alike": marked("Similar labels"),
    "imbalance": marked("Imbalanced labels"),
    "stop-outside-loss": marked("Stop token outside the loss"),
    "empty-thought-learnt": marked("Empty reasoning in the loss"),
    "reasoning-left-out": marked("Earlier reasoning left out"),
}
DELIMITERS = {
    ",": marked("comma"),
    ";": marked("semicolon"),
    "\t": marked("tab"),
    "|": marked("vertical bar"),
}
DELIMITED = ("csv", "tsv")
"""Kinds of files with delimiters."""
SOURCES = {"files": marked("files"), "directory": marked("directory"), "hub": marked("hub")}


def writes_text(task: Task) -> bool:
    """Whether the test items of a task are answered with generated texts."""
    return TASKS[task].generates


def reads_images(task: Task) -> bool:
    """Whether models of a task read images."""
    return TASKS[task].reads == "images"


def answers(task: Task) -> bool:
    """Whether models of a task answer in the playground."""
    return task in ANSWERING


def format_of(form: Format) -> str:
    return _(FORMATS[form])


def kind_of(kind: ColumnKind) -> str:
    return _(KINDS[kind])


def split_name(split: Split) -> str:
    return _(SPLITS[split])


def source_name(source: str) -> str:
    return _(SOURCES[source])


def task_options(tasks: Iterable[Task]) -> list[tuple[Task, str]]:
    """Tasks with their titles, to choose from."""
    return [(task, capitalized(_(TASKS[task].title))) for task in tasks]


def tasks_of(form: Format) -> str:
    """The tasks that can learn from rows of a format."""
    return ", ".join(_(task.title) for task in TASKS.values() if form in task.formats)


def used_by(uses: Uses | None) -> str:
    """`2 studies, 12 runs`; empty if unused."""
    if uses is None:
        return ""
    parts = [
        ngettext("%(num)s study", "%(num)s studies", uses.studies, num=count(uses.studies)) if uses.studies else "",
        ngettext("%(num)s run", "%(num)s runs", uses.runs, num=count(uses.runs)) if uses.runs else "",
    ]
    return ", ".join(part for part in parts if part)


FILTERS = (format_of, kind_of, split_name, source_name, tasks_of, used_by, writes_text, answers, reads_images)
"""What templates may use, under their own names."""
