"""A row as one line of tokens, for a model that reads from left to right: what leads up to a completion, and it.

    text         BOS  text  EOS
    prompt       BOS  prompt  completion  EOS
    messages     what the chat template writes, up to the end of the last assistant turn

A prompt is tokenized alone, and then with its completion. Where the first is the beginning of the second, the second is
taken. Where it is not, the tokenizer has joined the end of the prompt and the beginning of the completion into one
token, which a model that is given the prompt alone never gets to see; then the two are tokenized apart. So are they
where the first ends in the token for what is unknown, which would look the same had it taken in a word of the second.

BOS is whatever the tokenizer begins a text with. EOS follows a completion that does not end in such a token already: of
a chat template's turn, that has none in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from app.domain.data.dataset import ChatRow, PairRow, Row, Split, TextRow
from worker.engine.data.chat import ASSISTANT, ChatTemplate
from worker.engine.tasks.completions import special_tokens, unusable


@dataclass(frozen=True)
class Line:
    """A row's tokens."""

    ids: list[int]
    learnt: list[bool]
    """Which of them are learnt: a completion's, or all."""
    start: int
    """Where the last completion begins; 0: there is no prompt."""
    kept: int
    """Tokens at the beginning that begin every text, and are never cut."""
    wanted: str
    """The last completion as the dataset has it; empty without a prompt."""

    @property
    def prompt(self) -> list[int]:
        """What leads up to the last completion."""
        return self.ids[: self.start]

    def cut(self, most: int) -> "Line":
        """At most so many tokens: the prompt loses its beginning first, down to one token, then the completion its
        end."""
        drop = min(max(0, len(self.ids) - most), max(0, self.start - max(self.kept, 1)))
        rest = self.kept + drop
        return replace(
            self,
            ids=[*self.ids[: self.kept], *self.ids[rest:]][:most],
            learnt=[*self.learnt[: self.kept], *self.learnt[rest:]][:most],
            start=self.start - drop,
        )

    def tail(self, most: int) -> list[int]:
        """The prompt's last tokens, at most so many with those that are never cut."""
        prompt = self.prompt
        drop = max(0, len(prompt) - most)
        return [*prompt[: self.kept], *prompt[self.kept + drop :]][:most]


class LineWriter:
    """Makes lines of rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: set[int], completion_only: bool) -> None:
        """`stops`: tokens that end a text. `completion_only`: a prompt's tokens are not learnt."""
        self._tokenizer = tokenizer
        self._stops = stops
        self._completion_only = completion_only
        self._chat: ChatTemplate | None = None
        self._lead, _ = special_tokens(self._ids(["a"])[0], tokenizer("a")["input_ids"])
        self.apart = 0
        """Rows whose pieces were tokenized apart."""

    def lines(self, rows: Sequence[Row]) -> list[Line]:
        """One for each row, whole. Raises `RunFailed(bad_configuration)` for a row that cannot be learnt from."""
        pieces = [self._pieces(row) for row in rows]
        return [self._line(row, ids) for row, ids in zip(rows, self._tokens(pieces), strict=True)]

    def _pieces(self, row: Row) -> list[str]:
        """Context, completion, context, completion, …: a chat has several of each, a plain text an empty context."""
        match row:
            case TextRow() if row.text and row.text.strip():
                return ["", row.text]
            case TextRow():
                raise unusable(row, "has an empty text", "Leave it out")
            case PairRow() if row.completion and row.completion.strip():
                return [row.prompt or "", row.completion]
            case PairRow():
                raise unusable(row, "has an empty completion: there is nothing to learn", "Leave it out")
            case ChatRow():
                self._chat = self._chat or ChatTemplate(self._tokenizer)
                return self._chat.pieces(row)
            case _:
                raise unusable(row, "has a label and no text to go on with", "Choose the task sequence-classification")

    def _tokens(self, rows: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Tokens of every piece of every row."""
        upto = iter(self._ids(["".join(pieces[: n + 1]) for pieces in rows for n in range(len(pieces))]))
        found = []
        for pieces in rows:
            beginnings = [next(upto) for _ in pieces]
            whole = beginnings[-1]
            if all(whole[: len(beginning)] == beginning for beginning in beginnings) and not self._hides(beginnings):
                cuts = [0, *map(len, beginnings)]
                found.append([whole[cuts[n] : cuts[n + 1]] for n in range(len(pieces))])
            else:
                found.append(self._ids(pieces))
                self.apart += [token for piece in found[-1] for token in piece] != whole
        return found

    def _hides(self, beginnings: Sequence[Sequence[int]]) -> bool:
        """Whether a piece ends in the token for what is unknown, which may be all of the next piece's first word."""
        unknown = self._tokenizer.unk_token_id
        return unknown is not None and any(ids[-1:] == [unknown] for ids in beginnings[:-1])

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _line(self, row: Row, pieces: list[list[int]]) -> Line:
        chat, plain = isinstance(row, ChatRow), isinstance(row, TextRow)
        if not pieces[-1]:
            raise unusable(row, "has a text that the tokenizer makes no token of", "Leave it out")
        first = next(piece for piece in pieces if piece)
        if not chat and first[: len(self._lead)] != self._lead:  # a chat template writes its own
            pieces[0] = [*self._lead, *pieces[0]]
        ends = self._stops.intersection(pieces[-1] if chat else pieces[-1][-1:])
        ending = self._tokenizer.eos_token_id
        if ending is not None and not ends:
            pieces[-1] = [*pieces[-1], ending]
        ids = [token for piece in pieces for token in piece]
        start = 0 if plain else len(ids) - len(pieces[-1])
        if not plain and not start:
            raise unusable(
                row,
                "has a prompt without a token, and the tokenizer begins no text by itself: the completion has nothing "
                "to follow",
                "Write a prompt, or register the completions as plain texts",
            )
        everything = plain or not self._completion_only
        return Line(
            ids=ids,
            learnt=[everything or n % 2 == 1 for n, piece in enumerate(pieces) for _ in piece],
            start=start,
            kept=len(self._lead) if ids[: len(self._lead)] == self._lead else 0,
            wanted=_wanted(row),
        )


def _wanted(row: Row) -> str:
    match row:
        case PairRow():
            return row.completion
        case ChatRow():
            return [message["content"] for message in row.messages if message["role"] == ASSISTANT][-1]
        case _:
            return ""


def report(lines: Sequence[Line], cut: Sequence[Line], apart: int, split: Split, most: int) -> list[str]:
    """Sentences for the log: how many rows were cut, and how many tokenized apart."""
    sentences = []
    long = [(line, short) for line, short in zip(lines, cut, strict=True) if len(short.ids) < len(line.ids)]
    if long:
        ends = sum(len(short.ids) - short.start < len(line.ids) - line.start for line, short in long)
        sentences.append(
            f"{len(long)} of {len(lines)} rows of the {split} split are longer than max_length {most}: "
            f"{len(long) - ends} lost the beginning of their prompt, {ends} the end of what is learnt."
        )
    if apart:
        sentences.append(
            f"In {apart} of {len(lines)} rows of the {split} split the tokenizer would join the end of a prompt and "
            "the beginning of its completion into one token: they were tokenized apart, as a model sees them that goes "
            "on from the prompt. A space at the end of a prompt does better at the beginning of the completion."
        )
    return sentences
