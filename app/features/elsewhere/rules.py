"""Files of results: text in, results or errors out. A file is imported completely or not at all."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from app.domain.errors import FieldError
from app.domain.imports.result import ImportedResult
from app.domain.messages import Message, _
from app.domain.validation import UNKNOWN, field_error, legible, path_of
from app.features.elsewhere.peft import PeftFieldMissing, imported_result_of, is_peft_result

MOST_FILES = 1000
"""Of one request; `vezna import` sends more in batches."""
MOST_FILE_BYTES = 4 << 20
MOST_RESULTS = 1000
"""Of one file."""
MOST_AT_ONCE = 5000
"""Results of one request. They are written in one transaction, which blocks other writers on SQLite."""
LONGEST_FILE_NAME = 200


@dataclass(frozen=True)
class NamedText:
    """A file as it was sent."""

    name: str
    text: str | bytes


@dataclass(frozen=True)
class HashedResult:
    """A result, and the hash that makes its import unique."""

    result: ImportedResult
    content_hash: str


@dataclass(frozen=True)
class RefusedFile:
    """A file that was not imported."""

    file: str
    place: int
    """Index among the files of the request."""
    errors: tuple[FieldError, ...]


class Refused(ValueError):
    """A file cannot be imported."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(replace(error, path=legible(error.path)) for error in errors)
        super().__init__(" ".join(error.located for error in self.errors))

    @classmethod
    def because(cls, message: Message, remedy: Message, path: str = "") -> "Refused":
        """With a single error."""
        return cls([FieldError(path, message, remedy)])


def read(file: NamedText) -> list[HashedResult]:
    """The results of a file: Vezna's own JSON, one result or a list, or a PEFT result. Raises Refused."""
    document = _document(file.text)
    entries = document if isinstance(document, list) else [document]
    if not entries:
        raise Refused.because(_("The list is empty"), _("Add a result, or leave the file out"))
    if len(entries) > MOST_RESULTS:
        message = _("The file has %(entries)s results", entries=len(entries))
        raise Refused.because(message, _("Split it into files of at most %(most)s", most=MOST_RESULTS))
    results, errors = [], []
    for place, entry in enumerate(entries):
        path = str(place) if isinstance(document, list) else ""
        try:
            is_peft = isinstance(entry, Mapping) and is_peft_result(entry)
            result = ImportedResult.model_validate(imported_result_of(entry) if is_peft else entry)
        except PeftFieldMissing as missing:
            errors.append(replace(missing.error, path=path_of([path, missing.error.path])))
        except ValidationError as error:
            errors += [
                field_error({**e, "loc": (path, *e["loc"])}, REMEDIES)
                for e in error.errors(include_url=False, include_input=False)
            ]
        except RecursionError:
            errors.append(FieldError(path, _("The result is nested too deeply"), _("Nest a few levels at most")))
        else:
            results.append(HashedResult(result, hash_of(result)))
    if errors:
        raise Refused(errors)
    return results


def results_in(text: str) -> int:
    """How many results a file seems to hold; one if it cannot be parsed, since the server has to refuse it."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return 1
    return len(document) if isinstance(document, list) else 1


def shown_name(name: str) -> str:
    """A file's name without folders and unprintable characters. It is displayed, and never opened."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return legible(last).strip()[:LONGEST_FILE_NAME] or "unnamed"


def hash_of(result: ImportedResult) -> str:
    """SHA-256 of a result's own JSON, its fields in order."""
    stated = result.model_dump(mode="json", exclude=None if result.item_groups else {"item_groups"})
    text = json.dumps(stated, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # The order of the items counts, so they are added in their order.
    return hashlib.sha256(f"{text}\n{list(result.item_scores or ())}".encode()).hexdigest()


def _document(text: str | bytes) -> Any:
    if len(text) > MOST_FILE_BYTES:
        message = _("The file has %(size)s bytes", size=len(text))
        raise Refused.because(message, _("Use at most %(most)s: leave out curves and logs", most=MOST_FILE_BYTES))
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        message = _("The file is not UTF-8 text (byte %(byte)s)", byte=error.start)
        raise Refused.because(message, _("Save it as UTF-8")) from error
    if not decoded.strip():
        raise Refused.because(_("The file is empty"), _("Add a result, or leave the file out"))
    try:
        return json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant)
    except _Duplicate as error:
        raise Refused.because(_("The field occurs twice"), _("Keep one of them"), str(error)) from error
    except _Constant as error:
        message = _("%(value)s is not a number in JSON", value=error)
        raise Refused.because(message, _("Write the number, or leave the field out")) from error
    except json.JSONDecodeError as error:
        message = _(
            "The file is not JSON: %(problem)s in line %(line)s, column %(column)s",
            problem=error.msg,
            line=error.lineno,
            column=error.colno,
        )
        raise Refused.because(message, _("See docs/imports.md for the format")) from error
    except (RecursionError, ValueError) as error:
        message = _("The file is nested too deeply, or has a number that is too long")
        raise Refused.because(message, _("Simplify it")) from error


class _Duplicate(Exception):
    """An object has a field twice."""


class _Constant(Exception):
    """NaN or Infinity."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _value in pairs]
        raise _Duplicate(next(name for place, name in enumerate(names) if name in names[:place]))
    return fields


def _no_constant(word: str) -> float:
    raise _Constant(word)


REMEDIES = {
    UNKNOWN: _("Remove it, or put it into settings"),
    "model_type": _("Use an object with label, score, seed, source and any optional fields"),
    "model_attributes_type": _("Use an object with label, score, seed, source and any optional fields"),
}
"""What to do, by pydantic's type of error."""
