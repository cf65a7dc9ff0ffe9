"""Class probabilities, and the importance of each word by occlusion (Zeiler and Fergus 2014, arXiv 1311.2901, section
2.2; for words Li et al. 2016, arXiv 1612.08220).

    importance(w) = p(label | text) − p(label | text with w replaced by the mask token)

A tokenizer without a mask token has the word removed. Words are runs of characters without white space.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import torch

from app.domain.inference import MOST_IMPORTANCE_WORDS, Prediction
from worker.engine.data.batches.batches import padded
from worker.engine.data.batches.order import evaluation_order
from worker.engine.inference.models import Held
from worker.engine.inference.prompts import Encoder, Tokens

WORD = re.compile(r"\S+")
OCCLUDED_BATCH = 16


def classify(held: Held, encoded: Sequence[Tokens], between: Callable[[], None]) -> Iterator[Prediction]:
    """The prediction for each input, batch by batch; `between` may raise before each."""
    size = held.job.job.spec.training.per_device_eval_batch_size
    labels = held.job.job.labels
    for indices in evaluation_order([len(tokens) for tokens in encoded], size):
        between()
        rows = probabilities(held, [encoded[i] for i in indices])
        for i, row in zip(indices, rows, strict=True):
            yield prediction_of(i, labels, row.tolist(), len(encoded[i]))


def prediction_of(
    index: int, labels: Sequence[str], probabilities: Sequence[float], tokens: int | None = None
) -> Prediction:
    """The most probable label of an input, with all probabilities."""
    of_label = dict(zip(labels, probabilities, strict=True))
    return Prediction(index=index, label=max(of_label, key=of_label.__getitem__), probabilities=of_label, tokens=tokens)


def probabilities(held: Held, encoded: Sequence[Tokens]) -> torch.Tensor:
    """[B, labels] of one batch, float32."""
    ids, mask = padded(encoded, held.tokenizer.pad_token_id or 0)
    with torch.inference_mode():
        logits: torch.Tensor = held.model(input_ids=ids, attention_mask=mask).logits
    return logits.float().softmax(dim=1)


def importance(
    held: Held, encoder: Encoder, text: str, prediction: Prediction, between: Callable[[], None]
) -> list[tuple[str, float | None]]:
    """Each word with its importance for the predicted label; None beyond the first `MOST_IMPORTANCE_WORDS`, and for the
    only word of a text if nothing takes its place."""
    places = list(WORD.finditer(text))
    mask = str(held.tokenizer.mask_token or "")
    if not mask and len(places) == 1:
        return [(text, None)]
    occluded = [f"{text[: word.start()]}{mask}{text[word.end() :]}" for word in places[:MOST_IMPORTANCE_WORDS]]
    assert prediction.label is not None and prediction.probabilities is not None  # noqa: S101 of a classifier
    whole = prediction.probabilities[prediction.label]
    column = held.job.job.labels.index(prediction.label)
    falls: list[float | None] = []
    for start in range(0, len(occluded), OCCLUDED_BATCH):
        between()
        encoded = encoder.encode(occluded[start : start + OCCLUDED_BATCH], truncate=True)
        falls += [whole - p for p in probabilities(held, encoded)[:, column].tolist()]
    falls += [None] * (len(places) - len(falls))
    return [(word[0], fall) for word, fall in zip(places, falls, strict=True)]
