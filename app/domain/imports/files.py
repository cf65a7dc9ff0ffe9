"""Files of results: text in, results or sentences out. A file is taken whole or not at all."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from app.domain.errors import FieldError
from app.domain.imports.peft import PeftFieldMissing, imported_result_of, is_peft_result
from app.domain.imports.result import ImportedResult
from app.domain.messages import _
from app.domain.validation import UNKNOWN, field_error, legible, path_of

MOST_FILES = 1000
"""In one request; `vezna import` sends more in several."""
MOST_FILE_BYTES = 4 << 20
MOST_RESULTS = 1000
"""In one file."""
MOST_AT_ONCE = 5000
"""Results of one request: they are written in one transaction, and on SQLite whoever else writes waits for its end."""
LONGEST_FILE_NAME = 200


@dataclass(frozen=True)
class NamedText:
    """A file as it came."""

    name: str
    text: str | bytes


@dataclass(frozen=True)
class Read:
    """A result of a file, with what tells it from any other."""

    result: ImportedResult
    content_hash: str
    """SHA-256 of what it says: the same result is the same, whatever its file is called."""


class Refused(ValueError):
    """A file that cannot be taken, with a sentence for each thing that is wrong."""

    def __init__(self, file: str, errors: Iterable[FieldError]) -> None:
        self.file = file
        self.place = 0
        """Among the files that came together."""
        self.errors = tuple(replace(error, path=legible(error.path)) for error in errors)
        super().__init__(" ".join(error.located for error in self.errors))


def read(file: NamedText) -> list[Read]:
    """The results of a file, in its order: our own JSON (one or a list), or a PEFT result. Raises Refused."""
    name = shown(file.name)
    document = _document(name, file.text)
    entries = document if isinstance(document, list) else [document]
    if not entries:
        raise Refused(name, [FieldError("", _("The list is empty"), _("Add a result, or leave the file out"))])
    if len(entries) > MOST_RESULTS:
        what = _("The file has %(entries)s results", entries=len(entries))
        raise Refused(
            name,
            [FieldError("", what, _("Split it into files of at most %(most)s", most=MOST_RESULTS))],
        )
    found, errors = [], []
    for place, entry in enumerate(entries):
        where = str(place) if isinstance(document, list) else ""
        try:
            result = ImportedResult.model_validate(_ours(entry))
        except PeftFieldMissing as missing:
            errors.append(replace(missing.error, path=path_of([where, missing.error.path])))
        except ValidationError as error:
            errors += [
                field_error({**e, "loc": (where, *e["loc"])}, REMEDIES)
                for e in error.errors(include_url=False, include_input=False)
            ]
        except RecursionError:
            errors.append(FieldError(where, _("The result is nested too deeply"), _("Nest a few levels at most")))
        else:
            found.append(Read(result, hash_of(result)))
    if errors:
        raise Refused(name, errors)
    return found


def results_in(text: str) -> int:
    """How many results a file seems to hold; one where it cannot be read, since somebody has to refuse it."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return 1
    return len(document) if isinstance(document, list) else 1


def shown(name: str) -> str:
    """A file's name as it may be shown and kept: its last part, without what cannot be printed. It opens nothing."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return legible(last).strip()[:LONGEST_FILE_NAME] or "unnamed"


def hash_of(result: ImportedResult) -> str:
    """SHA-256 of a result's own JSON, its fields in order."""
    text = json.dumps(result.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, allow_nan=False)
    # The order of the items is a part of it, so they are added as they stand.
    return hashlib.sha256(f"{text}\n{list(result.item_scores or ())}".encode()).hexdigest()


def _ours(entry: object) -> Any:
    if isinstance(entry, Mapping) and is_peft_result(entry):
        return imported_result_of(entry)
    return entry


def _document(name: str, text: str | bytes) -> Any:
    size = len(text)
    if size > MOST_FILE_BYTES:
        what = _("The file has %(size)s bytes", size=size)
        raise Refused(
            name,
            [
                FieldError(
                    "",
                    what,
                    _("Use at most %(most)s: leave out curves and logs", most=MOST_FILE_BYTES),
                )
            ],
        )
    try:
        words = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise Refused(
            name,
            [FieldError("", _("The file is not UTF-8 text (byte %(byte)s)", byte=error.start), _("Save it as UTF-8"))],
        ) from error
    if not words.strip():
        raise Refused(name, [FieldError("", _("The file is empty"), _("Add a result, or leave the file out"))])
    try:
        return json.loads(words, object_pairs_hook=_once, parse_constant=_no_constant)
    except _Twice as error:
        raise Refused(name, [FieldError(str(error), _("The field occurs twice"), _("Keep one of them"))]) from error
    except _Constant as error:
        what = _("%(value)s is not a number in JSON", value=error)
        raise Refused(name, [FieldError("", what, _("Write the number, or leave the field out"))]) from error
    except json.JSONDecodeError as error:
        what = _(
            "The file is not JSON: %(problem)s in line %(line)s, column %(column)s",
            problem=error.msg,
            line=error.lineno,
            column=error.colno,
        )
        raise Refused(name, [FieldError("", what, _("See docs/imports.md for the format"))]) from error
    except (RecursionError, ValueError) as error:
        raise Refused(
            name,
            [FieldError("", _("The file is nested too deeply, or has a number that is too long"), _("Simplify it"))],
        ) from error


class _Twice(Exception):
    """A field of an object is there twice."""


class _Constant(Exception):
    """NaN or Infinity."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _value in pairs]
        raise _Twice(next(name for place, name in enumerate(names) if name in names[:place]))
    return made


def _no_constant(word: str) -> float:
    raise _Constant(word)


REMEDIES = {
    UNKNOWN: _("Remove it, or put it into settings"),
    "model_type": _("Use an object with label, score, seed, source and any optional fields"),
    "model_attributes_type": _("Use an object with label, score, seed, source and any optional fields"),
}
"""What to do, by pydantic's type of error."""
