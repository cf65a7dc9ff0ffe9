"""Previews of rows as the model will see them, tokenized by the same functions as training but without the model;
images by its processor.
"""

import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import GenerationConfig, PreTrainedTokenizerBase

from app.domain.data.dataset import (
    ROWS,
    SPLITS,
    ChatRow,
    ImageRow,
    LabelledRow,
    PairRow,
    PreferenceChatRow,
    PreferenceRow,
    QueryRow,
    Row,
    Split,
    TaggedRow,
    TextRow,
)
from app.domain.data.findings import Details, Example, Finding, FindingCode, excerpt
from app.domain.data.images import png_of, size_of
from app.domain.data.previews import (
    LOOKED_AT,
    MOST_TOKENS,
    PREVIEWED_ROWS,
    Preview,
    PreviewRequest,
    PreviewRow,
    PreviewToken,
    SplitLengths,
)
from app.domain.data.turns import said
from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.tasks import TASKS
from worker.engine.data.batches.batches import unreadable_dataset
from worker.engine.data.images import opened, pngs, resized
from worker.engine.data.lines import WARNINGS, LineWriter
from worker.engine.data.rows import special_tokens, values_of
from worker.engine.evaluation.generation import stop_tokens
from worker.engine.models.hub import hub
from worker.engine.models.load import load_processor
from worker.engine.tasks import TASKS as TASK_FILES
from worker.engine.tasks import (
    TaskFile,
    causal_lm,
    preference,
    sentence_embeddings,
    seq2seq_lm,
    sequence_classification,
    token_classification,
)


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


TOKENIZERS: dict[TaskFile, Callable[[PreTrainedTokenizerBase, PreviewRequest], Tokenize]] = {
    sequence_classification: _classified,
    token_classification: _tagged,
    causal_lm: _continued,
    seq2seq_lm: _translated,
    sentence_embeddings: _embedded,
    preference: _preferred,
}


def previewed(processor: Any, rows: Sequence[Row]) -> list[PreviewRow]:
    """The first rows. Raises `RunFailed` for a damaged image."""
    images = [row for row in rows if isinstance(row, ImageRow)][:PREVIEWED_ROWS]
    shown = []
    for place, image in pngs(images):
        row = images[place]
        [pixels] = resized(processor, [opened(image)])
        _channels, height, width = pixels.shape
        png = png_of(width, height, pixels.transpose(1, 2, 0).tobytes())
        shown.append(
            PreviewRow(
                item=row.item,
                split=row.split,
                label=row.label,
                tokens=[],
                length=0,
                kept=0,
                image=f"data:image/png;base64,{b64encode(png).decode()}",
                seen_size=(width, height),
                stored_size=size_of(image),
            )
        )
    return shown


_BATCH = 5000
_EXAMPLES = 3
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def preview(request: PreviewRequest, dataset: Path) -> Preview:
    """Preview five training rows, and count the token lengths of every split; `dataset` is a local Parquet file.

    Raises `RunFailed` for a row that cannot be used, or a tokenizer that cannot be loaded.
    """
    began = time.perf_counter()
    images = TASKS[request.task].reads == "images"
    try:
        processor = load_processor(hub.description_folder(request.location, request.revision), request.task)
    except (OSError, ValueError, ImportError) as error:
        reason = first_line(error)
        text = _("The base model's tokenizer could not be read (%(reason)s).", reason=reason)
        if images:
            text = _("The base model's image processor could not be read (%(reason)s).", reason=reason)
        raise RunFailed(FailureCode.MODEL_UNAVAILABLE, text) from error
    if images:
        sampled = {split: rows for split, _count, rows in _sampled(dataset, request, PREVIEWED_ROWS)}
        return Preview(rows=previewed(processor, sampled["train"]), lengths=[], seconds=time.perf_counter() - began)
    tokenize = TOKENIZERS[TASK_FILES[request.task]](processor, request)
    rows: list[PreviewRow] = []
    findings: list[Finding] = []
    lengths = []
    for split, count, sample in _sampled(dataset, request):
        tokenized = tokenize(sample)
        if split == "train":
            rows = [_shown(processor, *pair) for pair in zip(sample[:PREVIEWED_ROWS], tokenized, strict=False)]
            findings = _findings(sample, tokenized)
        counts = Counter(row.longest for row in tokenized)
        lengths.append(SplitLengths(split=split, rows=count, looked_at=len(sample), counts=sorted(counts.items())))
    return Preview(rows=rows, lengths=lengths, findings=findings, seconds=time.perf_counter() - began)


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text that each token adds to the text of the tokens before it. A character may span several tokens; the last
    of them gets it."""
    texts: list[str] = []
    start = read = 0
    for place in range(len(ids)):
        before, with_it = _text(tokenizer, ids[start:read]), _text(tokenizer, ids[start : place + 1])
        if with_it.endswith(_UNFINISHED) and place + 1 < len(ids):
            texts.append("")
            continue
        texts.append(with_it[len(before) :])
        start, read = read, place + 1
    return texts


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _shown(tokenizer: PreTrainedTokenizerBase, row: Row, tokenized: TokenizedRow) -> PreviewRow:
    special = set(tokenizer.all_special_ids)
    ids = tokenized.ids[:MOST_TOKENS]
    return PreviewRow(
        item=row.item,
        split=row.split,
        label=row.label if isinstance(row, LabelledRow) else None,
        tokens=[
            PreviewToken(text=text, special=token in special, learnt=learnt)
            for token, text, learnt in zip(ids, pieces(tokenizer, ids), tokenized.targets, strict=False)
        ],
        length=tokenized.length,
        kept=len(tokenized.ids),
        in_loss=sum(tokenized.targets),
    )


def _findings(rows: Sequence[Row], tokenized: Sequence[TokenizedRow]) -> list[Finding]:
    """What is unusual of the tokens in the loss, each with three rows."""
    affected = {
        code: [row for row, own in zip(rows, tokenized, strict=True) if code in own.findings] for code in WARNINGS
    }
    return [
        Finding(
            code=code,
            severity="warns",
            count=len(found),
            details=Details(of_rows=len(rows)),
            examples=[
                Example(row=None, split=row.split, item=row.item, excerpt=excerpt(_told(row)))
                for row in found[:_EXAMPLES]
            ],
        )
        for code, found in affected.items()
        if found
    ]


def _told(row: Row) -> str:
    match row:
        case ChatRow() | PreferenceChatRow():
            return " ".join(map(said, row.messages))
        case PairRow() | PreferenceRow():
            return row.prompt
        case TextRow():
            return row.text
        case _:
            return ""


def _sampled(dataset: Path, request: PreviewRequest, most: int = LOOKED_AT) -> Iterator[tuple[Split, int, list[Row]]]:
    """The number of rows of each split, and some of its rows, ordered by item name."""
    row_type: Any = ROWS[request.dataset_format]
    try:
        with pq.ParquetFile(dataset, pre_buffer=False) as file:  # else all that was read stays in memory
            names = file.read(columns=["item", "split"])
            items = np.array(names.column("item").to_pylist())
            splits = np.array(names.column("split").to_pylist())
            for split in SPLITS:
                places = np.flatnonzero(splits == split)
                chosen = places[np.argsort(items[places])[:most]]
                rows = _rows(file, chosen, list(row_type._fields))
                yield split, len(places), [row_type._make(rows[place]) for place in chosen.tolist()]
    except (OSError, pa.ArrowException) as error:
        raise unreadable_dataset(error, str(dataset)) from error


def _rows(file: pq.ParquetFile, chosen: np.ndarray[Any, Any], columns: list[str]) -> dict[int, tuple[Any, ...]]:
    """Rows at the given positions, read in batches."""
    rows: dict[int, tuple[Any, ...]] = {}
    start = 0
    ordered = np.sort(chosen)
    for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
        places = ordered[(ordered >= start) & (ordered < start + batch.num_rows)]
        if len(places):
            selected = batch.take(pa.array(places - start))
            values = zip(*(values_of(selected, name) for name in columns), strict=True)
            rows.update(zip(places.tolist(), values, strict=True))
        start += batch.num_rows
    return rows
