"""Maps the columns of a batch to the rows of a dataset format; a row without anything to learn is marked unusable."""

import json
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import takewhile
from typing import Any, NamedTuple

from app.domain.data.findings import FindingCode
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.tag_schemes import Scheme, to_iob2
from app.domain.data.tagging import continues_nothing
from app.domain.data.turns import ASSISTANT, Message, is_empty, is_learnt, last_reply, said
from worker.ingest.readers.batches import Batch, Value
from worker.ingest.rows.columns import Broken, not_finite, shown, words_of
from worker.ingest.rows.turns import parsed, says, tools_of, turns_of
from worker.ingest.unread import HISTORY, SYSTEM, TOOLS, beside

DIALOGUE = "\n\nAssistant:"
"""Where an answer begins in dialogues as one text, such as those of Anthropic's hh-rlhf."""
_PART_OF_WORD = re.compile(r"\w+\Z")


class TextPair(NamedTuple):
    prompt: str
    chosen: str
    rejected: str
    guessed: bool = False
    """The prompt is a shared beginning without a mark of its end, which the beginning of the answers may be part of."""


def text_pair(prompt: str | None, chosen: str, rejected: str) -> TextPair | FindingCode:
    """Prompt and answers. Without a prompt column (None) it is the beginning that both answers share: up to the last
    `DIALOGUE`, after which neither text may have another turn, or else up to a word that is not shared. The space
    before that word belongs to the answers, as in TRL, which cuts within words."""
    if chosen == rejected:
        return "equal-answers"
    guessed = False
    if prompt is None:
        pairs = zip(chosen, rejected, strict=False)
        prompt = "".join(one for one, _other in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if DIALOGUE in prompt:
            prompt = prompt[: prompt.rindex(DIALOGUE) + len(DIALOGUE)]
            if DIALOGUE in chosen[len(prompt) :] + rejected[len(prompt) :]:
                return "broken-pairs"
        else:
            prompt = _PART_OF_WORD.sub("", prompt).removesuffix(" ")
            guessed = True
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if not prompt.strip():
        return "no-prompt"
    if not chosen.strip() or not rejected.strip():
        return "broken-pairs"
    return TextPair(prompt, chosen, rejected, guessed)


def chat_pair(
    prompt: Sequence[Message] | str, chosen: Sequence[Message], rejected: Sequence[Message]
) -> tuple[list[Message], Message, Message] | FindingCode:
    """A conversation and two next turns of the assistant. `prompt`: its first turns, its one user turn, or nothing.
    The turns that both answers begin with follow it, unless they repeat it, or its last turns."""
    if list(chosen) == list(rejected):
        return "equal-answers"
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    before: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) and prompt.strip() else []
    before = _continued(before if isinstance(prompt, str) else list(prompt), list(chosen[:shared]))
    if not before:
        return "no-prompt"
    answers = [*chosen[shared:]], [*rejected[shared:]]
    if any(len(turns) != 1 or turns[0]["role"] != ASSISTANT or is_empty(turns[0]) for turns in answers):
        return "broken-pairs"
    return before, answers[0][0], answers[1][0]


def _continued(prompt: list[Message], shared: list[Message]) -> list[Message]:
    """The turns of a prompt and those after it, which may repeat all of it or its last ones."""
    first, second = (
        [(turn["role"], turn["content"].strip(), turn.get("more")) for turn in turns] for turns in (prompt, shared)
    )
    if any(second[place : place + len(first)] == first for place in range(len(second) - len(first) + 1)):
        return shared
    repeated = max(n for n in range(min(len(first), len(second)) + 1) if first[len(first) - n :] == second[:n])
    return [*prompt, *shared[repeated:]]


PREFERENCE = ("prompt", "chosen", "rejected")


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
    """Difference hash of an image (`worker.ingest.images.images`)."""


class Unusable(NamedTuple):
    code: FindingCode
    column: str
    excerpt: str


def drafts(batch: Batch, mapping: ColumnMapping, scheme: Scheme | None = None) -> Iterator[Draft | Unusable]:
    """A draft or an unusable row for each row of a batch; tags of a `scheme` become those of IOB2."""
    count = len(batch.rows)

    def column(role: Any) -> Sequence[Value]:
        name = mapping.columns.get(role)
        return batch.columns.get(name, [None] * count) if name else [None] * count

    tools = map(tools_of, beside(batch, mapping, TOOLS))
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
            sides = zip(*map(column, PREFERENCE), beside(batch, mapping, SYSTEM), tools, strict=True)
            return (_preferred_turn(mapping, *row) for row in sides)
        case "messages":
            name = mapping.columns.get("messages") or mapping.columns["completion"]
            turns = map(turns_of, column("messages")) if "messages" in mapping.columns else _asked(batch, mapping)
            told = zip(turns, beside(batch, mapping, SYSTEM), tools, strict=True)
            return (_conversation(name, _with_system(own, system), tool_list) for own, system, tool_list in told)


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
    normalized = import_module("worker.ingest.images.images").normalized(image)  # it needs Pillow, as no other rows do
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


def _preferred_turn(
    mapping: ColumnMapping, prompt: Value, chosen: Value, rejected: Value, system: Value, tools: str | None
) -> Draft | Unusable:
    if isinstance(prompt, dict):  # OpenAI's `input`
        tools = tools_of(prompt.get("tools")) or tools
        prompt = prompt.get("messages", shown(prompt))
    text = "" if prompt == [] else shown(prompt)
    asked: list[Message] | str = text
    if prompt and (isinstance(prompt, list) or text.lstrip().startswith("[")):
        read = turns_of(prompt)
        if isinstance(read, str) and isinstance(prompt, list):
            return Unusable("broken-messages", mapping.columns["prompt"], read)
        asked = text if isinstance(read, str) else read
    turns = {role: _answer(value, asked) for role, value in (("chosen", chosen), ("rejected", rejected))}
    for role in ("chosen", "rejected"):
        if isinstance(broken := turns[role], str):
            return Unusable("broken-messages", mapping.columns[role], broken)
    better, worse = turns["chosen"], turns["rejected"]
    assert not isinstance(better, str) and not isinstance(worse, str)  # noqa: S101 both were checked
    for answer in (better[-1], worse[-1]):
        if answer["role"] == ASSISTANT and not is_learnt(answer):
            return Unusable("unsupported-chat", "train", said(answer)[:1000])
    pair = chat_pair(asked, better, worse)
    if isinstance(pair, str):
        return Unusable(pair, mapping.columns["rejected"], json.dumps(worse, ensure_ascii=False)[:1000])
    before = _with_system(pair[0], system)
    if isinstance(before, Unusable):
        return before
    asks, answers = json.dumps(before, ensure_ascii=False), pair[1:]
    columns = before, *(turn["content"] for turn in answers), tools or None, *(turn.get("more") for turn in answers)
    return Draft(f"{asks}\x1f{tools}" if tools else asks, "\x1f".join(map(said, answers)), columns)


def _answer(value: Value, asked: list[Message] | str) -> list[Message] | str:
    """The turns of an answer; after a prompt, a text is the assistant's one."""
    turns = turns_of(value)
    if isinstance(turns, str) and asked and isinstance(value, str) and not _blank(value):
        return [{"role": ASSISTANT, "content": value}]
    return turns


def _asked(batch: Batch, mapping: ColumnMapping) -> Iterator[list[Message] | str]:
    """The turns of prompts and completions, each of them turns or a text, after those of Alpaca's `history`."""
    nothing = [None] * len(batch.rows)
    names = [mapping.columns.get(role, "") for role in ("prompt", "context", "completion")]
    columns = [batch.columns.get(name, nothing) for name in names]
    for prompt, context, completion, history in zip(*columns, beside(batch, mapping, HISTORY), strict=True):
        last = _joined(_side(prompt, "user", shown(context)), _side(completion, ASSISTANT))
        yield _joined(_earlier(history), last)


def _conversation(column: str, turns: list[Message] | str | Unusable, tools: str | None) -> Draft | Unusable:
    if isinstance(turns, Unusable):
        return turns
    if isinstance(turns, str):
        return Unusable("broken-messages", column, turns)
    last = last_reply(turns)
    if last is None or any(is_learnt(turn) and is_empty(turn) for turn in turns):
        return Unusable("no-assistant-turn", column, json.dumps(turns, ensure_ascii=False)[:1000])
    asks = json.dumps(turns[:last], ensure_ascii=False)
    return Draft(f"{asks}\x1f{tools}" if tools else asks, said(turns[last]), (turns, tools or None))


def _joined(prompt: list[Message] | str, completion: list[Message] | str) -> list[Message] | str:
    if isinstance(prompt, str) or isinstance(completion, str):
        return prompt if isinstance(prompt, str) else str(completion)
    return [*prompt, *completion]


def _side(value: Value, role: str, context: str = "") -> list[Message] | str:
    """The turns of a prompt or a completion; a text is one turn."""
    turns = turns_of(value)
    if isinstance(turns, list) or not isinstance(value, str) or _blank(value):
        return turns
    return [{"role": role, "content": value if _blank(context) else f"{value}\n\n{context}"}]


def _earlier(history: Value) -> list[Message] | str:
    """The turns in a list of pairs of a user's text and the assistant's."""
    pairs = parsed(history) if says(history) else []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    ):
        return shown(history)[:1000]
    roles = ("user", ASSISTANT)
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]


def _with_system(turns: list[Message] | str, system: Value) -> list[Message] | str | Unusable:
    """The turns after the system's, which they may have already. Two different ones contradict each other."""
    if isinstance(turns, str) or not isinstance(system, str):
        return turns
    if turns[0]["role"] != "system":
        return [{"role": "system", "content": system}, *turns]
    same = turns[0]["content"].strip() == system.strip()
    return turns if same else Unusable("unsupported-chat", "system", system[:1000])


def _blank(text: str) -> bool:
    return not text or text.isspace()
