"""What commands print are messages: no English text stands plain in the sources of the command line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import ROOT

COMMANDS = ROOT / "app" / "cli"
MESSAGES = {"_", "ngettext", "marked", "marked_plural", "looked_up_in"}
HELP = {"help", "metavar", "envvar"}
"""Arguments of Typer: `tests/support/checks/catalogue.py` collects help; the others are names."""
WORDS = re.compile(r"[A-Za-z]{2,}[,:;]? [A-Za-z]{2,}|^[A-Z][a-z]{2,}")
WORD_BETWEEN_VALUES = re.compile(r"(?:^|\s)[A-Za-z]{2,}(?=[\s.,:;)]|$)")


NAMES = {
    "Accept-Language",
    "Authorization",
    "Bearer ",
    "Idempotency-Key",
    "PostgreSQL",
    "dataset: ",
    "lorax-launcher --model-id … --adapter-source local",
    "redis://:…@127.0.0.1:…/0",
    "temporary files",
    "vezna ",
    "vezna export-model … --format … && mkdir run-… && tar -xf … -C run-",
    "vezna login on ",
    "vezna user token",
    "vezna …; ",
    "vllm serve ./run-",
    "vezna",
    "http://…:…/v1",
}
"""Texts that are the same in every language: of HTTP, of commands, and names."""


def plain_texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the text of each string with English words that is no message, no docstring and no help; and of each
    message in an f-string, where Babel does not find it."""
    for _field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            match child:
                case ast.Expr(value=ast.Constant(value=str())):
                    continue
                case ast.Call(func=ast.Name(id=name)) if name in MESSAGES:
                    for given in child.keywords:
                        yield from plain_texts(given)
                case ast.keyword(arg=name) if name in HELP:
                    continue
                case ast.JoinedStr(values=parts):
                    texts = [part.value for part in parts if isinstance(part, ast.Constant)]
                    if any(map(WORD_BETWEEN_VALUES.search, map(str, texts))):
                        yield child.lineno, "…".join(map(str, texts))
                    yield from hidden(child)
                case ast.Constant(value=str(text)) if WORDS.search(text):
                    yield child.lineno, text
                case ast.AST():
                    yield from plain_texts(child)


def hidden(text: ast.JoinedStr) -> Iterator[tuple[int, str]]:
    """Messages in an f-string."""
    for node in ast.walk(text):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(message)), *_rest]) if name in MESSAGES:
                yield node.lineno, f"in an f-string: {message}"


@pytest.mark.parametrize("file", sorted(COMMANDS.rglob("*.py")), ids=lambda file: str(file.relative_to(COMMANDS)))
def test_a_command_prints_messages_only(file: Path) -> None:
    found = [(line, text) for line, text in plain_texts(ast.parse(file.read_text())) if text not in NAMES]
    assert found == [], f"make messages of these lines of {file.relative_to(ROOT)}, or add names to NAMES"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('say("Nothing to do")', ["Nothing to do"]),
        ('say(f"{rows} rows")', [" rows"]),
        ('Table("Study")', ["Study"]),
        ('say(_("Nothing to do"))', []),
        ('say(_("%(what)s", what="of the run"))', ["of the run"]),
        ("say(f\"{_('Nothing to do')}.\")", ["in an f-string: Nothing to do"]),
        ('"""Starts it."""\ntyper.Option("--json", help="Print JSON.")', []),
        ('client.get(f"/runs/{run}/exports")', []),
    ],
)
def test_a_plain_text_is_found(source: str, found: list[str]) -> None:
    assert [text for _line, text in plain_texts(ast.parse(source))] == found
