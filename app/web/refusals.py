"""What the domain says in its refusals and its advice, in the request's language.

The domain and the services speak English, and a sentence of theirs has its values in it already: `BertModel has no
block 7`. The f-string that it was made by stands in the source, which the catalogue reads as a message,
`%(architecture)s has no block %(beyond)s`. A sentence is translated by the message that it fits.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from app.domain.errors import FieldError
from app.settings import ROOT
from app.web.i18n import gettext as _

ROOMS = ("app/domain", "app/services")
SAYING = ("FieldError", "FilterError", "wrong", "field")
"""What is called with a path, a message and a remedy: the dataclass, a validator's error, `Invalid.field`."""

VALUE = re.compile(r"%\((\w+)\)s")
NAME = re.compile(r"[A-Za-z_]\w*")
"""The last one in an expression names its value: `{model.architecture}`, `{', '.join(able)}`."""


def told(error: FieldError) -> FieldError:
    """An error in the request's language."""
    return replace(error, message=translated(error.message), remedy=translated(error.remedy))


def translated(text: str) -> str:
    """A sentence in the request's language; as it is where none of the messages fits it."""
    for pattern, message in _patterns():
        if match := pattern.fullmatch(text):
            return _(message, **match.groupdict())
    return text


def templates(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The messages in a source: what is said, and what to do, with the lines that they stand on."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for said in _said(function):
                message = _message(said)
                if re.search(r"\w", VALUE.sub("", message)):
                    yield said.lineno, message


def _said(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """What a function calls `SAYING` with, be it a constant, a name for one, or a choice between some."""
    named: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named.setdefault(node.targets[0].id, []).append(node.value)
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SAYING:
            for argument in node.args[1:]:
                found = named.get(argument.id, []) if isinstance(argument, ast.Name) else [argument]
                for one in found:
                    yield from (one.body, one.orelse) if isinstance(one, ast.IfExp) else (one,)


def _message(said: ast.expr) -> str:
    """A constant or an f-string as gettext has it; empty for anything else."""
    if isinstance(said, ast.Constant):
        return str(said.value)
    if not isinstance(said, ast.JoinedStr):
        return ""
    parts: list[str] = []
    for part in said.values:
        if isinstance(part, ast.FormattedValue):
            stem = (NAME.findall(ast.unparse(part.value)) or ["value"])[-1]
            before = sum(bool(re.fullmatch(rf"%\({stem}\d*\)s", other)) for other in parts)
            parts.append(f"%({stem}{before + 1 if before else ''})s")
        elif isinstance(part, ast.Constant):
            parts.append(str(part.value).replace("%", "%%"))
    return "".join(parts)


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Every message with what fits it, the one that says most first."""
    files = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
    found = {message for file in files for _line, message in templates(ast.parse(file.read_bytes()))}
    split = {message: VALUE.split(message) for message in found}
    ordered = sorted(found, key=lambda message: (-sum(map(len, split[message][::2])), message))
    return [(_pattern(split[message]), message) for message in ordered]


def _pattern(parts: list[str]) -> re.Pattern[str]:
    """Constants and names in turn."""
    names, constants = parts[1::2], [part.replace("%%", "%") if len(parts) > 1 else part for part in parts[::2]]
    values = [f"(?P<{name}>.+?)" for name in names] + [""]
    return re.compile("".join(re.escape(c) + v for c, v in zip(constants, values, strict=True)), re.DOTALL)
