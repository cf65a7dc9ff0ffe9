"""Help and messages of the command line."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer import rich_utils

from app.cli.help import TITLES, help_texts, localize, usage_error
from app.cli.program import cli
from app.settings import ROOT
from app.words.i18n import DEFAULT, gettext, speak

CYRILLIC = re.compile("[а-яѝ]")
NAMES = re.compile(r"`[^`]*`|'[^']*'|<[^>]*>|vezna( [a-z-]+)+")
ENGLISH = re.compile(r"[A-Za-z']+(?: [A-Za-z']+){2,}")


@pytest.fixture
def vezna(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """The command line in Bulgarian, for a terminal of some width."""
    for name in TITLES:
        monkeypatch.setattr(rich_utils, name, getattr(rich_utils, name))
    speak("bg")
    command = typer.main.get_command(cli)
    localize(command)

    def run(*arguments: str, width: int = 80) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        command(list(arguments), prog_name="vezna", standalone_mode=False)

    yield run
    speak(DEFAULT)


def calls(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words that call each command."""
    yield words
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from calls(subcommand, (*words, name))


@pytest.mark.slow
def test_the_help_of_every_command_is_bulgarian(vezna: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    root = typer.main.get_command(cli)
    assert [text for text in help_texts(root) if not CYRILLIC.search(gettext(text))] == []
    every = list(calls(root))
    assert ("datasets", "add") in every
    for words in every:
        vezna(*words, "--help", width=400)
        printed = capsys.readouterr().out
        assert f"Употреба: {' '.join(['vezna', *words])} [ОПЦИИ]" in printed
        assert ENGLISH.findall(NAMES.sub("", printed)) == [], words


def test_help_fits_80_columns_in_sentences(vezna: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    vezna("--help")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 80
    assert "│ cancel         Отменя всички неприключили изпълнения на проучване или едно   │" in lines
    assert not any("спират за секунди" in line for line in lines), "the second sentence is for its own help"
    vezna("cancel", "--help")
    assert "Работещите спират за секунди." in capsys.readouterr().out


def test_a_name_in_brackets_is_no_markup(vezna: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    vezna("sample", "--help")
    assert "`vezna[sample]`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message", "helps"),
    [
        (("submit",), "Липсва аргументът 'spec'.", "vezna submit"),
        (("submit", "--wach", "x"), "Няма опция --wach (подобни: --watch)", "vezna submit"),
        (("submit", "--qqqq"), "Няма опция --qqqq", "vezna submit"),
        (("lst",), "Няма команда 'lst'. Може би 'list'?", "vezna"),
        (("qqqq",), "Няма команда 'qqqq'.", "vezna"),
        (("list", "--limit", "x"), "Невалидна стойност за '--limit': трябва да е цяло число", "vezna list"),
        (("list", "--limit", "0"), "Невалидна стойност за '--limit': трябва да е поне 1", "vezna list"),
        (("list", "--limit", "501"), "Невалидна стойност за '--limit': трябва да е най-много 500", "vezna list"),
        (("serve", "1", "--port", "x"), "Невалидна стойност за '--port': трябва да е цяло число", "vezna serve"),
        (("datasets", "add", "--test", "x"), "Невалидна стойност за '--test': трябва да е число", "vezna datasets add"),
        (("list", "things"), "Невалидна стойност за 'what': 'things' не е сред 'studies', 'runs'.", "vezna list"),
        (("list", "runs", "a", "b"), "Излишни аргументи: a b", "vezna list"),
        (("list", "--limit"), "Опцията '--limit' изисква стойност.", ""),
        (("list", "--json=3"), "Опцията '--json' не приема стойност.", ""),
    ],
)
def test_a_wrong_command_line_is_explained(
    vezna: Callable[..., None], arguments: tuple[str, ...], message: str, helps: str
) -> None:
    with pytest.raises(typer.TyperException) as raised:
        vezna(*arguments)
    assert raised.value.exit_code == 2
    assert usage_error(raised.value) == [message, *([f"Вижте: {helps} --help"] if helps else [])]


COMMANDS = ROOT / "app" / "cli"
MESSAGES = {"_", "ngettext", "marked", "marked_plural", "looked_up_in"}
HELP = {"help", "metavar", "envvar"}
"""Arguments of Typer: `tests/support/checks/catalogue.py` collects help; the others are names."""
WORDS = re.compile(r"[A-Za-z]{2,}[,:;]? [A-Za-z]{2,}|^[A-Z][a-z]{2,}")
WORD_BETWEEN_VALUES = re.compile(r"(?:^|\s)[A-Za-z]{2,}(?=[\s.,:;)]|$)")


HIDDEN_NAMES = {
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
    found = [(line, text) for line, text in plain_texts(ast.parse(file.read_text())) if text not in HIDDEN_NAMES]
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
