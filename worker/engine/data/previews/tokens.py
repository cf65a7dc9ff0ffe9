"""Tokens of rows for previews, by the functions that training uses."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from transformers import GenerationConfig, PreTrainedTokenizerBase

from app.domain.data.dataset import LabelledRow, PairRow, QueryRow, Row, TaggedRow
from app.domain.data.findings import FindingCode
from app.domain.data.previews import PreviewRequest
from worker.engine.data.lines import LineWriter
from worker.engine.data.rows import special_tokens
from worker.engine.evaluation.generation import stop_tokens
from worker.engine.tasks import preference, seq2seq_lm, sequence_classification, token_classification


class TokenizedRow(NamedTuple):
    ids: list[int]
    """The tokens after truncation to `max_length`."""
    targets: list[bool]
    """Which of them are in the loss."""
    length: int
    """Number of tokens before truncation."""
    longest: int
    """The length that `max_length` limits."""
    findings: frozenset[FindingCode] = frozenset()


Tokenize = Callable[[Sequence[Row]], list[TokenizedRow]]


def _stops(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The stop tokens of training: those of the generation config that transformers gives the model."""
    folder = tokenizer.name_or_path
    try:
        config = GenerationConfig.from_pretrained(folder)
    except OSError:
        config = GenerationConfig.from_pretrained(folder, config_file_name="config.json", _from_model_config=True)
    return stop_tokens(config, tokenizer)


def _classified(tokenizer: PreTrainedTokenizerBase, request: PreviewRequest) -> Tokenize:
    def tokenize(rows: Sequence[Row]) -> list[TokenizedRow]:
        texts = [row.text for row in rows if isinstance(row, LabelledRow)]
        if not texts:
            return []
        complete = sequence_classification.token_ids(tokenizer, texts)
        cut = sequence_classification.token_ids(tokenizer, texts, truncation=True, max_length=request.max_length)
        return [
            TokenizedRow(ids, [False] * len(ids), len(all_ids), len(all_ids))
            for ids, all_ids in zip(cut, complete, strict=True)
        ]

    return tokenize


def _tagged(tokenizer: PreTrainedTokenizerBase, request: PreviewRequest) -> Tokenize:
    def tokenize(rows: Sequence[Row]) -> list[TokenizedRow]:
        sentences = [row.tokens for row in rows if isinstance(row, TaggedRow)]
        if not sentences:
            return []
        complete = token_classification.tokenize(tokenizer, sentences)
        cut = token_classification.tokenize(tokenizer, sentences, request.max_length)
        lengths = [len(words.ids) for words in complete]
        tokenized = []
        for words, length in zip(cut, lengths, strict=True):
            starts = {*words.starts}
            learnt = [place in starts for place in range(len(words.ids))]
            tokenized.append(TokenizedRow(words.ids, learnt, length, length))
        return tokenized

    return tokenize


def _continued(tokenizer: PreTrainedTokenizerBase, request: PreviewRequest) -> Tokenize:
    writer = LineWriter(tokenizer, _stops(tokenizer), request.completion_only_loss)

    def tokenize(rows: Sequence[Row]) -> list[TokenizedRow]:
        lines = writer.lines(rows) if rows else []
        cut = [line.cut(request.max_length) for line in lines]
        return [
            TokenizedRow(short.ids, short.targets, len(line.ids), len(line.ids), short.findings)
            for line, short in zip(lines, cut, strict=True)
        ]

    return tokenize


def _translated(tokenizer: PreTrainedTokenizerBase, request: PreviewRequest) -> Tokenize:
    _start, ending = special_tokens(
        *(seq2seq_lm.token_ids(tokenizer, "text", ["a"], special)[0] for special in (False, True))
    )
    limit = request.max_length

    def tokenize(rows: Sequence[Row]) -> list[TokenizedRow]:
        pairs = [row for row in rows if isinstance(row, PairRow)]
        if not pairs:
            return []
        prompts = seq2seq_lm.token_ids(tokenizer, "text", [row.prompt for row in pairs])
        completions = seq2seq_lm.token_ids(tokenizer, "text_target", [row.completion for row in pairs])
        tokenized = []
        for prompt, completion in zip(prompts, completions, strict=True):
            source, target = seq2seq_lm.cut(prompt, ending, limit), completion[:limit]
            learnt = [False] * len(source) + [True] * len(target)
            length = len(prompt) + len(completion)
            tokenized.append(TokenizedRow(source + target, learnt, length, max(len(prompt), len(completion))))
        return tokenized

    return tokenize


def _embedded(tokenizer: PreTrainedTokenizerBase, request: PreviewRequest) -> Tokenize:
    def tokenize(rows: Sequence[Row]) -> list[TokenizedRow]:
        pairs = [row for row in rows if isinstance(row, QueryRow)]
        if not pairs:
            return []
        texts = [text for row in pairs for text in (row.query, row.passage)]
        whole = sequence_classification.token_ids(tokenizer, texts)
        cut = sequence_classification.token_ids(tokenizer, texts, truncation=True, max_length=request.max_length)
        tokenized = []
        for place in range(0, len(texts), 2):
            ids, lengths = cut[place] + cut[place + 1], [len(whole[place]), len(whole[place + 1])]
            tokenized.append(TokenizedRow(ids, [False] * len(ids), sum(lengths), max(lengths)))
        return tokenized

    return tokenize


def _preferred(tokenizer: PreTrainedTokenizerBase, request: PreviewRequest) -> Tokenize:
    writer = LineWriter(tokenizer, _stops(tokenizer), completion_only=True, last_turn_only=True)

    def tokenize(rows: Sequence[Row]) -> list[TokenizedRow]:
        tokenized = []
        for pair in preference.lines_of(rows, writer) if rows else []:
            cut = preference.cut_alike(pair, request.max_length)
            ids = [token for line in cut for token in line.ids]
            targets = [taken for line in cut for taken in line.targets]
            lengths = [len(line.ids) for line in pair]
            findings = cut[0].findings | cut[1].findings
            tokenized.append(TokenizedRow(ids, targets, sum(lengths), max(lengths), findings))
        return tokenized

    return tokenize


TOKENIZERS: dict[str, Callable[[PreTrainedTokenizerBase, PreviewRequest], Tokenize]] = {
    "sequence-classification": _classified,
    "token-classification": _tagged,
    "causal-lm": _continued,
    "seq2seq-lm": _translated,
    "sentence-embeddings": _embedded,
    "preference": _preferred,
}
