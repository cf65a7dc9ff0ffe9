"""Parses JSON event by event, in bounded memory: finds where a file has its rows, and yields them.

A file that begins with an object contains a sequence of objects (JSONL under another name), or one object with its rows
in a list, `{"data": [{…}, …]}`. ijson's own `items` keeps the path to each value at each depth: gigabytes for 100,000
nested lists.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import ijson

from app.domain.messages import Message, _
from worker.ingest.readers.batches import Source, Unreadable, printable

MOST_DEPTH = 100
"""Maximum nesting of objects and lists in a row; a conversation has three levels."""
_TICK_EVENTS = 1_000_000
_MOST_NAMED = 5


class Element(NamedTuple):
    """A value of a list, with what JSON permits and a dict loses."""

    value: Any
    repeated: set[tuple[str, str]]
    """Keys that an object names more than once, each with the field of the row that it is in."""


class Shape(NamedTuple):
    """Where the rows of a file are."""

    lines: bool
    """Each object is a row."""
    within: str = ""
    """The field of the single object whose list contains them."""


def shape_of(source: Source, bytes_: Any) -> Shape:
    """Read the first object. Raises Unreadable if it is the only object and has no list of objects, or several."""
    fields: list[str] = []
    lists: list[str] = []
    depth, begun = 0, False
    try:
        for event, value in _events(source, bytes_):
            if depth == 1 and event == "map_key":
                fields.append(value)
            elif depth == 2 and begun and event == "start_map" and fields[-1] not in lists:
                lists.append(fields[-1])
            begun = depth == 1 and event == "start_array"
            depth += event.startswith("start") - event.startswith("end")
    except ijson.JSONError:
        if depth == 0 and fields:  # another object follows
            return Shape(lines=True)
        if not lists:
            return Shape(lines=True)  # the reader of lines names the invalid line
    if len(lists) == 1:
        return Shape(lines=False, within=lists[0])
    names = ", ".join(printable(field) for field in (lists or fields)[:_MOST_NAMED])
    if lists:
        text = _(
            "%(name)s contains one object with several lists of objects (%(fields)s). Put each list into its own file, "
            "[{…}, …], named by its split.",
            name=source.name,
            fields=names,
        )
    else:
        text = _(
            "%(name)s contains one object (fields: %(fields)s) without a list of objects. Vezna reads a list of "
            "objects, "
            "[{…}, …], or one object per line.",
            name=source.name,
            fields=names or _("none"),
        )
    raise Unreadable(text)


def elements(source: Source, bytes_: Any, within: str | None) -> Iterator[Element]:
    """Yield the elements of the file's list, or of the list in the field `within` of its object. Raises Unreadable for
    elements that are nested too deeply, and ijson.JSONError."""
    base = 1 if within is None else 2
    depth, number, field, inside = 0, 0, "", False
    builder: ijson.ObjectBuilder | None = None
    keys, repeated, of_row = list[set[str]](), set[tuple[str, str]](), ""
    for event, value in ijson.basic_parse(bytes_, use_float=True):
        before = depth
        depth += event.startswith("start") - event.startswith("end")
        if depth > base + MOST_DEPTH:
            raise Unreadable(too_deep(source.name, _("element %(number)s", number=number + 1)))
        if builder is None and inside and before == base and depth >= base:
            builder, repeated = ijson.ObjectBuilder(), set()
        if builder is not None:
            builder.event(event, value)
            if event == "start_map":
                keys.append(set())
            elif event == "end_map":
                keys.pop()
            elif event == "map_key":
                of_row = value if depth == base + 1 else of_row
                if value in keys[-1]:
                    repeated.add((of_row, value))
                keys[-1].add(value)
            if depth == base:
                number += 1
                yield Element(builder.value, repeated)
                builder = None
        elif event == "map_key" and before == 1:
            field = value
        elif before == base - 1:
            inside = event == "start_array" and (within is None or field == within)


def too_deep(name: str, where: str) -> Message:
    """The message for a row that is nested too deeply."""
    return _(
        "%(name)s: %(where)s nests objects and lists more than %(limit)s levels deep. Write the deep part as text, or "
        "leave it out.",
        name=name,
        where=where,
        limit=MOST_DEPTH,
    )


def _events(source: Source, bytes_: Any) -> Iterator[tuple[str, Any]]:
    """The events of a file; reports progress from time to time."""
    for number, (event, value) in enumerate(ijson.basic_parse(bytes_, use_float=True)):
        if number % _TICK_EVENTS == 0:
            source.tick(0, 0)
        yield event, value
