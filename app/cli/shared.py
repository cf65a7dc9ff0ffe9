"""What commands share: printing, common options, reading files."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from app.domain.errors import Invalid
from app.words.i18n import gettext as _

console = Console()
errors = Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")]
Url = Annotated[str, typer.Option("--url", envvar="VEZNA_URL", help="Where the server is.")]
LOCAL = "http://127.0.0.1:8000"


def read(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds an object. Raises Invalid."""
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(_("%(path)s cannot be read: %(why)s", path=path, why=error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(_("%(path)s is not YAML: %(why)s", path=path, why=" ".join(str(error).split()))) from error
    if not isinstance(body, dict):
        raise Invalid(
            _("%(path)s contains neither a run nor a study. See examples/run.yaml and examples/study.yaml.", path=path)
        )
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Invalid(
            _(
                "%(path)s has a value that JSON does not allow (%(error)s). Put quotes around dates, and use no .nan.",
                path=path,
                error=error,
            )
        ) from error
    return body


def new_file(target: Path, *, force: bool) -> Path:
    """The file that a command is going to write, checked before its work. Raises Invalid if it exists, unless `force`
    is set, or cannot be written."""
    if target.is_dir():
        raise Invalid(_("%(path)s is a directory. Name a file by --output.", path=target))
    if target.exists() and not force:
        raise Invalid(
            _("%(path)s exists already. Name another file by --output, or overwrite it by --force.", path=target)
        )
    folder = target.parent
    if not folder.is_dir():
        raise Invalid(_("There is no directory %(path)s. Create it, or name another file by --output.", path=folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        text = _("You may not write into the directory %(path)s. Name another file by --output.", path=folder)
        raise Invalid(text)
    return target


def say(line: str, *, to: Console | None = None, wrap: bool = True) -> None:
    """Print a line as it is; without `wrap` a long one stays one line."""
    (to or console).print(line, markup=False, highlight=False, soft_wrap=not wrap)


def show(answer: Any, as_json: bool, *views: Callable[[Any], Table | Iterable[str]], wrap: bool = True) -> None:
    """Print an answer: as JSON, or as the tables and lines that `views` make of it."""
    if as_json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    for view in views:
        text = view(answer)
        if isinstance(text, Table):
            console.print(text)
        else:
            for line in text:
                say(line, wrap=wrap)


def queued(kind: str, ident: int, address: str = "") -> str:
    """That a run or a study is queued (`kind`: `runs`, `studies`), and where its page is."""
    place = f"{address}/{kind}/{ident}"
    if kind == "runs":
        return _("Run %(id)s is queued: %(place)s", id=ident, place=place)
    return _("Study %(id)s is queued: %(place)s", id=ident, place=place)
