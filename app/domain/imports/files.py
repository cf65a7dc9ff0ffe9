"""Files of results: text in, results or sentences out. A file is taken whole or not at all."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from app.domain.errors import FieldError
from app.domain.imports.peft import PeftFieldMissing, as_outside, is_peft_result
from app.domain.imports.result import OutsideResult
from app.domain.names import OF_KEY, legible

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

    result: OutsideResult
    content_hash: str
    """SHA-256 of what it says: the same result is the same, whatever its file is called."""


class Refused(ValueError):
    """A file that cannot be taken, with a sentence for each thing that is wrong."""

    def __init__(self, file: str, errors: Iterable[FieldError]) -> None:
        self.file = file
        self.place = 0
        """Among the files that came together."""
        self.errors = tuple(replace(error, path=legible(error.path)) for error in errors)
        super().__init__("; ".join(f"{e.path}: {e.message}" if e.path else e.message for e in self.errors))


def read(file: NamedText) -> list[Read]:
    """The results of a file, in its order: our own JSON (one or a list), or a PEFT result. Raises Refused."""
    name = shown(file.name)
    document = _document(name, file.text)
    entries = document if isinstance(document, list) else [document]
    if not entries:
        raise Refused(name, [FieldError("", "the list is empty", "put a result into it, or leave the file out")])
    if len(entries) > MOST_RESULTS:
        what = f"the list has {len(entries)} results"
        raise Refused(name, [FieldError("", what, f"at most {MOST_RESULTS}: part it into several files")])
    found, errors = [], []
    for place, entry in enumerate(entries):
        where = f"{place}." if isinstance(document, list) else ""
        try:
            result = OutsideResult.model_validate(_ours(entry))
        except PeftFieldMissing as missing:
            errors.append(replace(missing.error, path=f"{where}{missing.error.path}"))
        except ValidationError as error:
            errors += [_told(where, e) for e in error.errors(include_url=False, include_input=False)]
        except RecursionError:
            errors.append(FieldError(where.rstrip("."), "it is nested too deeply", "a few levels at most"))
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


def hash_of(result: OutsideResult) -> str:
    """SHA-256 of a result's own JSON, its fields in order."""
    text = json.dumps(result.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, allow_nan=False)
    # The order of the items is a part of it, so they are added as they stand.
    return hashlib.sha256(f"{text}\n{list(result.item_scores or ())}".encode()).hexdigest()


def _ours(entry: object) -> Any:
    if isinstance(entry, Mapping) and is_peft_result(entry):
        return as_outside(entry)
    return entry


def _document(name: str, text: str | bytes) -> Any:
    size = len(text)
    if size > MOST_FILE_BYTES:
        what = f"the file has {size} bytes"
        raise Refused(name, [FieldError("", what, f"at most {MOST_FILE_BYTES}: leave curves and logs out")])
    try:
        words = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise Refused(
            name, [FieldError("", f"it is not UTF-8 text (byte {error.start})", "save it as UTF-8")]
        ) from error
    if not words.strip():
        raise Refused(name, [FieldError("", "the file is empty", "write a result into it, or leave it out")])
    try:
        return json.loads(words, object_pairs_hook=_once, parse_constant=_no_constant)
    except _Twice as error:
        raise Refused(name, [FieldError(str(error), "it is there twice", "keep one of them")]) from error
    except _Constant as error:
        what = f"{error} is no number that JSON knows"
        raise Refused(name, [FieldError("", what, "give the number, or leave the field out")]) from error
    except json.JSONDecodeError as error:
        what = f"it is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise Refused(name, [FieldError("", what, "see docs/imports.md for what a file looks like")]) from error
    except (RecursionError, ValueError) as error:
        raise Refused(
            name, [FieldError("", "it cannot be read: too deep, or a number too long", "simplify it")]
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
    "missing": "give it",
    "extra_forbidden": "remove it, or put it into settings",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "it must say something",
    "string_too_long": "at most {max_length} characters",
    "string_type": "a text, in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "literal_error": "one of {expected}",
    "dict_type": "an object, in braces",
    "model_type": "an object with label, score, seed, source and what else is known",
    "model_attributes_type": "an object with label, score, seed, source and what else is known",
}
"""What to do, by pydantic's type of error."""


def _told(where: str, error: Mapping[str, Any]) -> FieldError:
    """Pydantic's error in a sentence of ours."""
    context, kind = error.get("ctx", {}), str(error["type"])
    path = where + ".".join(str(part) for part in error["loc"] if part != OF_KEY)
    if kind == "wrong":
        below = context["path"]
        return FieldError(
            f"{path}.{below}".strip(".") if below else path.rstrip("."), context["message"], context["remedy"]
        )
    message = "this field is not known" if kind == "extra_forbidden" else str(error["msg"])
    return FieldError(path.rstrip("."), message, REMEDIES.get(kind, "see docs/imports.md").format(**context))
