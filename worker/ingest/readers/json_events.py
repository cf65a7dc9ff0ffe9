"""JSON event by event, in bounded memory: where a file has its rows, and the rows one by one.

A file that begins with an object holds objects one after the other (JSONL under another name), or one object with its
rows in a list, `{"data": [{…}, …]}`. ijson's own `items` keeps the path to each value at each depth, which of 100,000
lists within each other are gigabytes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import ijson

from worker.ingest.readers.batches import Source, Unreadable, printable

MOST_DEPTH = 100
"""Objects and lists within each other, in one row; a conversation has three."""
_TICK_EVENTS = 1_000_000
_MOST_NAMED = 5


class Shape(NamedTuple):
    """Where rows are."""

    lines: bool
    """Each object is a row."""
    within: str = ""
    """The field of the one object whose list has them."""


def shape_of(source: Source, bytes_: Any) -> Shape:
    """Reads the first object. Raises Unreadable if it is the only one and has no list of objects, or several."""
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
    there = ", ".join(printable(field) for field in (lists or fields)[:_MOST_NAMED])
    if lists:
        what = f"holds one object with several lists of objects ({there})"
        raise Unreadable(f"{source.name} {what}: put each list into a file of its own, [{{…}}, …], named by its split.")
    what = f"holds one object (its fields are {there or 'none'}) and no list of objects"
    raise Unreadable(f"{source.name} {what}: Vezna reads a row an object, [{{…}}, …], or an object a line.")


def elements(source: Source, bytes_: Any, within: str | None) -> Iterator[Any]:
    """What is in the list that the file is, or that a field of its object has. Raises Unreadable for what is nested too
    deeply, and ijson.JSONError."""
    base = 1 if within is None else 2
    depth, number, field, inside = 0, 0, "", False
    builder: ijson.ObjectBuilder | None = None
    for event, value in ijson.basic_parse(bytes_, use_float=True):
        before = depth
        depth += event.startswith("start") - event.startswith("end")
        if depth > base + MOST_DEPTH:
            raise Unreadable(too_deep(source.name, f"element {number + 1}"))
        if builder is None and inside and before == base and depth >= base:
            builder = ijson.ObjectBuilder()
        if builder is not None:
            builder.event(event, value)
            if depth == base:
                number += 1
                yield builder.value
                builder = None
        elif event == "map_key" and before == 1:
            field = value
        elif before == base - 1:
            inside = event == "start_array" and (within is None or field == within)


def too_deep(name: str, where: str) -> str:
    """Why a row is not read."""
    what = f"has objects and lists within each other more than {MOST_DEPTH} times"
    return f"{name}: {where} {what}: write what is so deep as a text, or leave it out."


def _events(source: Source, bytes_: Any) -> Iterator[tuple[str, Any]]:
    """With a sign of life now and then."""
    for number, (event, value) in enumerate(ijson.basic_parse(bytes_, use_float=True)):
        if number % _TICK_EVENTS == 0:
            source.tick(0, 0)
        yield event, value
