"""Help and usage errors in the language of the command."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer import rich_utils

from app.cli.help import TITLES, help_texts, localize, usage_error
from app.cli.program import cli
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


def test_help_fits_a_terminal_of_80_columns_and_begins_with_first_sentences(
    vezna: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
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
