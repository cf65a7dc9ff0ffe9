"""One row as one token sequence for a decoder: the context, then the completion.

    text         BOS  text  EOS
    prompt       BOS  prompt  completion  EOS
    messages     the output of the chat template, up to the end of the last assistant turn

The prompt is tokenized alone and together with its completion. If the first is a prefix of the second, the second is
used. Otherwise the tokenizer has merged the end of the prompt and the start of the completion into one token, which a
model that is given the prompt alone never sees; then the two are tokenized separately. The same holds where the prompt
ends in the unknown token, which would look the same if it had swallowed a word of the completion.

BOS is whatever the tokenizer puts at the start of a text. EOS is added to a completion that does not end in an
end-of-text token already; for a chat turn, if it contains none.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from transformers import PreTrainedTokenizerBase

from app.domain.data.dataset import ChatRow, PairRow, Row, Split, TextRow
from app.domain.data.findings import FindingCode
from app.domain.data.turns import Message, last_reply, others
from app.domain.messages import _
from worker.engine.data.chats.chat import ChatTemplate, Piece
from worker.engine.data.rows import special_tokens, unusable

_EMPTY_THOUGHT = re.compile(r"<think>\s*</think>")
_LONGEST_EMPTY = 40
"""Characters before a piece in which an empty thought that ends in it may begin."""
WARNINGS: dict[FindingCode, str] = {
    "stop-outside-loss": "{rows} of {all} rows of the train split have a reply whose stop token is outside the loss, "
    "so the model does not learn there to stop: max_length cuts it off, or the chat template attributes it to the next "
    "message. Raise max_length, or write the stop token inside the template's {{% generation %}}.",
    "empty-thought-learnt": "{rows} of {all} rows of the train split have an empty <think></think> in the loss, so "
    "the model learns not to reason. To keep its reasoning, write reasoning_content into these turns, or use a chat "
    "template that adds no empty block.",
    "reasoning-left-out": "The chat template leaves out the reasoning of earlier turns in {rows} of {all} rows of the "
    "train split, so the model does not learn it. To learn it, end a conversation after each such turn.",
}
"""What a log says of rows."""


@dataclass(frozen=True)
class Line:
    """The tokens of one row."""

    ids: list[int]
    learnt: list[bool]
    """Which tokens belong to what is learnt: those of the completions, or all."""
    start: int
    """Index of the last completion's first token; 0: the row has no prompt."""
    lead: int
    """Number of leading tokens that start every text (BOS); never truncated."""
    reference: str
    """The last completion as the dataset has it, or with calls or reasoning as the chat template writes it; empty
    without a prompt."""
    stop: int
    """Index of the token that ends the last completion."""
    findings: frozenset[FindingCode] = frozenset()
    """What is unusual of its tokens in the loss."""
    empty_thoughts: tuple[int, ...] = ()
    """Where empty thoughts that are in the loss end: the index after their last tokens."""

    @property
    def targets(self) -> list[bool]:
        """Which tokens are in the loss. The first never is, since nothing predicts it."""
        return [False, *self.learnt[1:]]

    @property
    def prompt(self) -> list[int]:
        """The tokens before the last completion."""
        return self.ids[: self.start]

    def excess(self, limit: int) -> int:
        """Tokens of the prompt to drop from its start, down to one token, so that at most `limit` tokens are left."""
        return min(max(0, len(self.ids) - limit), max(0, self.start - max(self.lead, 1)))

    def cut(self, limit: int, drop: int | None = None) -> "Line":
        """Truncate to at most this many tokens: first the prompt from its start, by `drop` tokens or its excess, then
        the completion from its end."""
        drop = self.excess(limit) if drop is None else drop
        tail = self.lead + drop
        findings = {*self.findings}
        if self.start and self.stop - drop >= limit:
            findings.add("stop-outside-loss")
        thoughts = tuple(end - drop for end in self.empty_thoughts if self.lead < end - drop <= limit)
        if not thoughts:
            findings.discard("empty-thought-learnt")
        return replace(
            self,
            ids=[*self.ids[: self.lead], *self.ids[tail:]][:limit],
            learnt=[*self.learnt[: self.lead], *self.learnt[tail:]][:limit],
            start=self.start - drop,
            stop=self.stop - drop,
            findings=frozenset(findings),
            empty_thoughts=thoughts,
        )

    def tail(self, limit: int) -> list[int]:
        """The last tokens of the prompt, at most this many including the ones that are never truncated."""
        prompt = self.prompt
        drop = max(0, len(prompt) - limit)
        return [*prompt[: self.lead], *prompt[self.lead + drop :]][:limit]


class LineWriter:
    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stops: set[int],
        completion_only: bool,
        *,
        last_turn_only: bool = False,
    ) -> None:
        """`stops`: tokens that end a text. `completion_only`: prompt tokens have no target. `last_turn_only`: of a
        conversation, earlier turns of the assistant neither."""
        self._tokenizer = tokenizer
        self._stops = stops
        self._completion_only = completion_only
        self._last_turn_only = last_turn_only
        self._chat: ChatTemplate | None = None
        self._lead, _ending = special_tokens(self._ids(["a"])[0], tokenizer("a")["input_ids"])
        self.apart = 0
        """Number of rows whose pieces were tokenized separately."""

    def lines(self, rows: Sequence[Row]) -> list[Line]:
        """One untruncated line for each row. Raises `RunFailed(bad_configuration)` for a row without anything to
        learn."""
        pieces = [self._pieces(row) for row in rows]
        ids = self._tokens([[piece.text for piece in own] for own, _forgets in pieces])
        return [
            self._line(row, own, of_row, forgets) for row, own, (of_row, forgets) in zip(rows, ids, pieces, strict=True)
        ]

    def prompt(self, given: str | list[Message], tools: str | None = None) -> Line:
        """A prompt, or a conversation up to the assistant's next turn with its tools (JSON), without a completion: the
        tokens after which a completion is generated. Raises `RunFailed(bad_configuration)` if there is no chat
        template, or it fails."""
        if isinstance(given, str):
            ids = self._ids([given])[0]
            ids = ids if ids[: len(self._lead)] == self._lead else [*self._lead, *ids]
        else:
            self._chat = self._chat or ChatTemplate(self._tokenizer)
            ids = self._ids([self._chat.prompt(given, tools)])[0]
        lead = len(self._lead) if ids[: len(self._lead)] == self._lead else 0
        return Line(ids, [False] * len(ids), len(ids), lead, "", len(ids))

    def _pieces(self, row: Row) -> tuple[list[Piece], bool]:
        """Split a row into context, completion, context, completion, …: a chat has several of each, a plain text has an
        empty context. And whether the reasoning of a completion is left out."""
        match row:
            case TextRow() if row.text and row.text.strip():
                return [Piece("", None), Piece(row.text, True)], False
            case TextRow():
                raise unusable(row, _("has an empty text"), _("Leave it out"))
            case PairRow() if row.completion and row.completion.strip():
                return [Piece(row.prompt or "", None), Piece(row.completion, True)], False
            case PairRow():
                raise unusable(row, _("has an empty completion"), _("Leave it out"))
            case ChatRow():
                self._chat = self._chat or ChatTemplate(self._tokenizer)
                return self._chat.pieces(row, last_only=self._last_turn_only)
            case _:
                raise unusable(row, _("has a label and no completion"), _("Choose the task sequence-classification"))

    def _tokens(self, rows: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Token ids of every piece of every row."""
        upto = iter(self._ids(["".join(pieces[: n + 1]) for pieces in rows for n in range(len(pieces))]))
        tokens = []
        for pieces in rows:
            beginnings = [next(upto) for _piece in pieces]
            together = beginnings[-1]
            if all(together[: len(beginning)] == beginning for beginning in beginnings) and not self._hides(beginnings):
                cuts = [0, *map(len, beginnings)]
                tokens.append([together[cuts[n] : cuts[n + 1]] for n in range(len(pieces))])
            else:
                tokens.append(self._ids(pieces))
                self.apart += [token for piece in tokens[-1] for token in piece] != together
        return tokens

    def _hides(self, beginnings: Sequence[Sequence[int]]) -> bool:
        """Whether a piece ends in the unknown token, which may include the first word of the next piece."""
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

    def _line(self, row: Row, pieces: list[list[int]], texts: Sequence[Piece], forgets: bool) -> Line:
        chat, plain = isinstance(row, ChatRow), isinstance(row, TextRow)
        if not pieces[-1]:
            raise unusable(row, _("has a text without any token"), _("Leave it out"))
        first = next(piece for piece in pieces if piece)
        if not chat and first[: len(self._lead)] != self._lead:  # a chat template writes its own EOS
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
                _("has a prompt without a token, and the tokenizer adds no start token to it"),
                _("Write a prompt, or register the completions as plain texts"),
            )
        everything = plain or not self._completion_only
        learnt = [everything if piece.learnt is None else piece.learnt for piece in texts]
        findings: set[FindingCode] = {"reasoning-left-out"} if forgets else set()
        if not everything and any(
            piece.learnt and self._stops.isdisjoint(own) and not self._stops.isdisjoint(following)
            for piece, (own, following) in zip(texts, pairwise(pieces), strict=False)
        ):
            findings.add("stop-outside-loss")
        told = pairwise(["", *(piece.text for piece in texts)])
        begins = accumulate((len(piece) for piece in pieces), initial=0)
        thoughts = tuple(
            begin + len(self._ids([text[:end]])[0])
            for own, begin, (before, text) in zip(learnt, begins, told, strict=False)
            if own
            for end in _empty_thoughts(before, text)
        )
        if thoughts:
            findings.add("empty-thought-learnt")
        stops = (place for place, token in enumerate(pieces[-1]) if token in self._stops)
        return Line(
            ids=ids,
            learnt=[own for own, piece in zip(learnt, pieces, strict=True) for _token in piece],
            start=start,
            lead=len(self._lead) if ids[: len(self._lead)] == self._lead else 0,
            reference=self._reference(row, pieces[-1]),
            stop=len(ids) - len(pieces[-1]) + next(stops, len(pieces[-1]) - 1),
            findings=frozenset(findings),
            empty_thoughts=thoughts,
        )

    def _reference(self, row: Row, completion: list[int]) -> str:
        match row:
            case PairRow():
                return row.completion
            case ChatRow():
                turn = row.messages[last_reply(row.messages) or 0]
                if not others(turn):
                    return turn["content"]
                return str(
                    self._tokenizer.decode(completion, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                ).strip()
            case _:
                return ""


def _empty_thoughts(before: str, text: str) -> list[int]:
    """Where empty thoughts end in a text that follows another."""
    before = before[-_LONGEST_EMPTY:]
    ends = (found.end() - len(before) for found in _EMPTY_THOUGHT.finditer(before + text))
    return [end for end in ends if end > 0]


def report(lines: Sequence[Line], cut: Sequence[Line], apart: int, split: Split, limit: int) -> list[str]:
    """Log lines: how many rows were truncated, how many were tokenized separately, and in how many the loss covers
    something unusual."""
    sentences = []
    long = [(line, short) for line, short in zip(lines, cut, strict=True) if len(short.ids) < len(line.ids)]
    if long:
        ends = sum(len(short.ids) - short.start < len(line.ids) - line.start for line, short in long)
        sentences.append(
            f"{len(long)} of {len(lines)} rows of the {split} split are longer than max_length {limit}: "
            f"{len(long) - ends} were truncated at the start of their prompt, {ends} at the end of their completion."
        )
    if apart:
        sentences.append(
            f"In {apart} of {len(lines)} rows of the {split} split the tokenizer would merge the end of the prompt and "
            "the start of its completion into one token, so they were tokenized separately, as in generation. If a "
            "prompt ends in a space, move the space to the start of the completion."
        )
    return [*sentences, *(warnings([line.findings for line in cut]) if split == "train" else ())]


def warnings(findings: Sequence[frozenset[FindingCode]]) -> Iterator[str]:
    """Log lines: in how many rows of train the loss covers something unusual."""
    counts = Counter(code for own in findings for code in own)
    for code, sentence in WARNINGS.items():
        if counts[code]:
            yield sentence.format(rows=counts[code], all=len(findings))
