"""Previews of rows as the model will see them, tokenized by the same functions as training but without the model;
images by its processor.
"""

import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from app.domain.data.dataset import (
    ROWS,
    SPLITS,
    ChatRow,
    ImageRow,
    LabelledRow,
    PairRow,
    PreferenceChatRow,
    PreferenceRow,
    Row,
    Split,
    TextRow,
)
from app.domain.data.findings import Details, Example, Finding, excerpt
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
from worker.engine.data.images import opened, resized
from worker.engine.data.lines import WARNINGS
from worker.engine.data.previews.tokens import TOKENIZERS, TokenizedRow
from worker.engine.data.rows import values_of
from worker.engine.data.stored_images import pngs
from worker.engine.models.hub import hub
from worker.engine.models.load import load_processor


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
    tokenize = TOKENIZERS[request.task](processor, request)
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
