"""Maps the columns of a batch to the rows of a dataset format; a row without anything to learn is marked unusable."""

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from app.domain.data.dataset import Message
from app.domain.data.findings import FindingCode
from app.domain.data.mapping import ColumnMapping
from app.domain.data.tag_schemes import Scheme, to_iob2
from app.domain.data.tagging import continues_nothing
from worker.ingest.columns import not_finite, shown
from worker.ingest.preferences import ASSISTANT, chat_pair, text_pair
from worker.ingest.readers.batches import Batch, Value
from worker.ingest.words import Broken, words_of

PREFERENCE = ("prompt", "chosen", "rejected")
_ROLES = {"human": "user", "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT, "chatgpt": ASSISTANT}
"""Other names of roles."""


class Draft(NamedTuple):
    """A row before it has a split and a name."""

    asks: str
    """The input: rows with the same input go into the same split."""
    answers: str
    """The target: label, completion or last turn."""
    columns: tuple[Any, ...]
    """The columns of the dataset's format, without item and split."""
    guessed: bool = False
    """Where the prompt of a preference pair ends is a guess."""
    difference_hash: int | None = None
    """Of an image (`worker.ingest.images`)."""


class Unusable(NamedTuple):
    """Why a row is unusable."""

    code: FindingCode
    column: str
    excerpt: str


def drafts(batch: Batch, mapping: ColumnMapping, scheme: Scheme | None = None) -> Iterator[Draft | Unusable]:
    """A draft or an unusable row for each row of a batch; tags of a `scheme` become those of IOB2."""
    count = len(batch.rows)

    def column(role: Any) -> Sequence[Value]:
        name = mapping.columns.get(role)
        return batch.columns.get(name, [None] * count) if name else [None] * count

    match mapping.format:
        case "labelled":
            return _labelled(mapping, column("text"), column("label"))
        case "tagged":
            return (_tagged(mapping, scheme, *pair) for pair in zip(column("tokens"), column("tags"), strict=True))
        case "text":
            return _texts(mapping, column("text"))
        case "prompt-completion":
            return _pairs(mapping, column("prompt"), column("context"), column("completion"))
        case "labelled-images":
            pairs = zip(column("image"), column("label"), strict=True)
            return (_imaged(mapping, image, label) for image, label in pairs)
        case "query-passage":
            return _queries(mapping, column("query"), column("passage"))
        case "preference":
            return (_preference(mapping, *row) for row in zip(*map(column, PREFERENCE), strict=True))
        case "preference-messages":
            return (_preferred_turn(mapping, *row) for row in zip(*map(column, PREFERENCE), strict=True))
        case "messages" if "messages" in mapping.columns:
            return (_conversation(mapping.columns["messages"], _turns(turns)) for turns in column("messages"))
        case "messages":
            name = mapping.columns["completion"]
            both = zip(column("prompt"), column("completion"), strict=True)
            return (_conversation(name, _joined(_turns(prompt), _turns(completion))) for prompt, completion in both)


def _labelled(mapping: ColumnMapping, texts: Sequence[Value], labels: Sequence[Value]) -> Iterator[Draft | Unusable]:
    for text, value in zip(map(shown, texts), labels, strict=True):
        label = _label(mapping, value, text)
        if _blank(text):
            yield Unusable("empty-rows", mapping.columns["text"], shown(value))
        elif isinstance(label, Unusable):
            yield label
        else:
            yield Draft(text, label, (text, label))


def _label(mapping: ColumnMapping, value: Value, excerpt: str) -> str | Unusable:
    """The label's name. NaN and infinity are no labels unless the mapping names them."""
    label = shown(value)
    if _blank(label):
        return Unusable("empty-rows", mapping.columns["label"], excerpt)
    if not_finite(value) and label not in mapping.label_names:
        return Unusable("not-a-number", mapping.columns["label"], excerpt)
    return mapping.label_names.get(label, label)


def _tagged(mapping: ColumnMapping, scheme: Scheme | None, tokens: Value, tags: Value) -> Draft | Unusable:
    words, names = words_of(tokens), words_of(tags)
    if not words or not names:
        empty = mapping.columns["tags" if words else "tokens"]
        return Unusable("empty-rows", empty, shown(tokens if words else tags)[:1000])
    for column, listed in ((mapping.columns["tokens"], words), (mapping.columns["tags"], names)):
        if isinstance(listed, Broken):
            return Unusable("broken-words", column, listed.shown)
    assert not isinstance(words, Broken) and not isinstance(names, Broken)  # noqa: S101 both were checked
    if len(words) != len(names):
        counted = f"{len(words)} ≠ {len(names)}: {' '.join(words)}"
        return Unusable("tags-mismatch", mapping.columns["tags"], counted[:1000])
    named = [mapping.label_names.get(name, name) for name in names]
    if scheme is not None:
        named = to_iob2(named, scheme)
    if continues_nothing(named):
        return Unusable("broken-tags", mapping.columns["tags"], " ".join(named)[:1000])
    return Draft(" ".join(words), " ".join(named), (words, named))


def _imaged(mapping: ColumnMapping, image: Value, value: Value) -> Draft | Unusable:
    if not isinstance(image, bytes) or not image:
        return Unusable("empty-rows", mapping.columns["image"], shown(value))
    label = _label(mapping, value, shown(image))
    if isinstance(label, Unusable):
        return label
    normalized = import_module("worker.ingest.images").normalized(image)  # it needs Pillow, as no other rows do
    if isinstance(normalized, str):
        return Unusable("broken-images", mapping.columns["image"], f"{label}: {normalized}"[:1000])
    return Draft(normalized.pixels_hash, label, (normalized.png, label), difference_hash=normalized.difference_hash)


def _texts(mapping: ColumnMapping, texts: Sequence[Value]) -> Iterator[Draft | Unusable]:
    for text in map(shown, texts):
        yield Unusable("empty-rows", mapping.columns["text"], "") if _blank(text) else Draft(text, "", (text,))


def _pairs(
    mapping: ColumnMapping, prompts: Sequence[Value], contexts: Sequence[Value], completions: Sequence[Value]
) -> Iterator[Draft | Unusable]:
    for prompt, context, completion in zip(
        map(shown, prompts), map(shown, contexts), map(shown, completions), strict=True
    ):
        if _blank(prompt):
            yield Unusable("empty-rows", mapping.columns["prompt"], completion)
        elif _blank(completion):
            yield Unusable("empty-rows", mapping.columns["completion"], prompt)
        else:
            full_prompt = prompt if _blank(context) else f"{prompt}\n\n{context}"
            yield Draft(full_prompt, completion, (full_prompt, completion))


def _queries(mapping: ColumnMapping, queries: Sequence[Value], passages: Sequence[Value]) -> Iterator[Draft | Unusable]:
    for query, passage in zip(map(shown, queries), map(shown, passages), strict=True):
        if _blank(query):
            yield Unusable("empty-rows", mapping.columns["query"], passage)
        elif _blank(passage):
            yield Unusable("empty-rows", mapping.columns["passage"], query)
        else:
            yield Draft(query, passage, (query, passage))


def _preference(mapping: ColumnMapping, prompt: Value, chosen: Value, rejected: Value) -> Draft | Unusable:
    texts = {"chosen": shown(chosen), "rejected": shown(rejected)}
    for role in ("chosen", "rejected"):
        if _blank(texts[role]):
            return Unusable("empty-rows", mapping.columns[role], shown(prompt)[:1000])
    pair = text_pair(shown(prompt) if mapping.columns.get("prompt") else None, texts["chosen"], texts["rejected"])
    if isinstance(pair, str):
        return Unusable(pair, mapping.columns["rejected"], texts["rejected"][:1000])
    return Draft(pair.prompt, f"{pair.chosen}\x1f{pair.rejected}", pair[:3], pair.guessed)


def _preferred_turn(mapping: ColumnMapping, prompt: Value, chosen: Value, rejected: Value) -> Draft | Unusable:
    if isinstance(prompt, dict):  # OpenAI's `input`; tools would be part of what the model is asked
        if prompt.get("tools"):
            return Unusable("broken-messages", mapping.columns["prompt"], shown(prompt)[:1000])
        prompt = prompt.get("messages", shown(prompt))
    text = "" if prompt == [] else shown(prompt)
    asked: list[Message] | str = text
    if prompt and (isinstance(prompt, list) or text.lstrip().startswith("[")):
        read = _turns(prompt)
        if isinstance(read, str) and isinstance(prompt, list):
            return Unusable("broken-messages", mapping.columns["prompt"], read)
        asked = text if isinstance(read, str) else read
    turns = {role: _answer(value, asked) for role, value in (("chosen", chosen), ("rejected", rejected))}
    for role in ("chosen", "rejected"):
        if isinstance(broken := turns[role], str):
            return Unusable("broken-messages", mapping.columns[role], broken)
    better, worse = turns["chosen"], turns["rejected"]
    assert not isinstance(better, str) and not isinstance(worse, str)  # noqa: S101 both were checked
    pair = chat_pair(asked, better, worse)
    if isinstance(pair, str):
        return Unusable(pair, mapping.columns["rejected"], json.dumps(worse, ensure_ascii=False)[:1000])
    return Draft(json.dumps(pair[0], ensure_ascii=False), "\x1f".join(pair[1:]), pair)


def _answer(value: Value, asked: list[Message] | str) -> list[Message] | str:
    """The turns of an answer; after a prompt of turns, a text is the assistant's one."""
    turns = _turns(value)
    if isinstance(turns, str) and isinstance(asked, list) and isinstance(value, str):
        return [{"role": ASSISTANT, "content": value}]
    return turns


def _conversation(column: str, turns: list[Message] | str) -> Draft | Unusable:
    if isinstance(turns, str):
        return Unusable("broken-messages", column, turns)
    replies = [place for place, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    if not replies or any(_blank(turns[place]["content"]) for place in replies):
        return Unusable("no-assistant-turn", column, json.dumps(turns, ensure_ascii=False)[:1000])
    asks = json.dumps(turns[: replies[-1]], ensure_ascii=False)
    return Draft(asks, turns[replies[-1]]["content"], (turns,))


def _joined(prompt: list[Message] | str, completion: list[Message] | str) -> list[Message] | str:
    if isinstance(prompt, str) or isinstance(completion, str):
        return prompt if isinstance(prompt, str) else str(completion)
    return [*prompt, *completion]


def _turns(value: Value) -> list[Message] | str:
    """The turns in a list of {role, content} or {from, value}; the value as text if it is no such list."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)[:1000]
    if not isinstance(value, list) or not value:
        return shown(value)[:1000]
    turns: list[Message] = []
    for turn in value:
        if not isinstance(turn, dict):
            return shown(value)[:1000]
        role, content = turn.get("role", turn.get("from")), _content(turn.get("content", turn.get("value")))
        if not isinstance(role, str) or content is None:
            return shown(value)[:1000]
        turns.append({"role": _ROLES.get(role, role), "content": content})
    return turns


def _content(value: Value) -> str | None:
    """A turn's text, which may be a list of parts."""
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    return value if isinstance(value, str) else None


def _blank(text: str) -> bool:
    return not text or text.isspace()
