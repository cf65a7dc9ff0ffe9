"""Help and usage errors in the language of the command.

The docstring of a command and the `help` of its options are messages as they stand: `tests/support/checks/catalogue.py`
collects them from the commands, so none can lack a translation. Typer's own words are messages here."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer
from rich.markup import escape

from app.words.i18n import DEFAULT, language, marked, stored
from app.words.i18n import gettext as _

TITLES = {
    "ARGUMENTS_PANEL_TITLE": marked("Arguments"),
    "OPTIONS_PANEL_TITLE": marked("Options"),
    "COMMANDS_PANEL_TITLE": marked("Commands"),
    "DEFAULT_STRING": marked("[default: {}]"),
    "ENVVAR_STRING": marked("[env var: {}]"),
    "REQUIRED_LONG_STRING": marked("[required]"),
}
"""Attributes of `typer.rich_utils`."""
USAGE_ERRORS = (
    marked("Missing argument %(name)s."),
    marked("No such command %(name)s."),
    marked("No such command %(name)s. Did you mean %(others)s?"),
    marked("No such option: %(name)s"),
    marked("No such option: %(name)s (Possible options: %(others)s)"),
    marked("Option %(name)s requires an argument."),
    marked("Option %(name)s does not take a value."),
    marked("Got unexpected extra argument(s) (%(given)s)"),
    marked("Invalid value for %(name)s: %(why)s"),
    marked("Value error, %(value)s is not one of %(choices)s."),
    marked("Input should be a valid integer, unable to parse string as an integer"),
    marked("Input should be a valid number, unable to parse string as a number"),
    marked("Input should be greater than or equal to %(least)s"),
    marked("Input should be less than or equal to %(most)s"),
)
"""Typer's and Pydantic's sentences; `stored` recognizes them."""


class _Context(typer.Context):
    def make_formatter(self) -> Any:
        """Typer's, with the word before the usage in the language of the command."""
        formatter = super().make_formatter()
        write = formatter.write_usage
        formatter.write_usage = lambda prog, args="", prefix=None: write(prog, args, prefix or _("Usage: "))  # type: ignore[method-assign]
        return formatter


def help_texts(command: Any) -> Iterator[str]:
    """What the help of a command and of its subcommands says, in English."""
    for part in _parts(command):
        if part.help:
            yield _joined(part.help)


def localize(command: Any) -> None:
    """Put the help of a command and of its subcommands into the language of the command; a list of commands has the
    first sentence of each."""
    for part in _parts(command):
        if part.help:
            part.help = escape(_(_joined(part.help)))
        if hasattr(part, "short_help"):
            first, stop, _rest = (part.help or "").partition(". ")
            part.short_help, part.context_class = first + stop.strip(), _Context
            part.options_metavar = _("[OPTIONS]")
        if hasattr(part, "subcommand_metavar"):
            part.subcommand_metavar = _("COMMAND [ARGS]...")
    if language() != DEFAULT:
        titles = import_module("typer.rich_utils")  # other English commands do without it
        for name, title in TITLES.items():
            setattr(titles, name, _(title))


def usage_error(error: typer.TyperException) -> list[str]:
    """What is wrong with a command line, and which command helps; empty where the help itself was printed."""
    if not (message := error.format_message()):
        return []
    context = getattr(error, "ctx", None)
    lines = [stored(message)]
    return [*lines, _("See: %(command)s --help", command=context.command_path)] if context else lines


def _parts(command: Any) -> Iterator[Any]:
    """A command, its parameters, and its subcommands with theirs."""
    yield command
    yield from command.params
    yield command.get_help_option(_Context(command))
    for subcommand in getattr(command, "commands", {}).values():
        yield from _parts(subcommand)


def _joined(text: str) -> str:
    return " ".join(text.split())
