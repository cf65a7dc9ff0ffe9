"""Baselines of a dataset's test split, computed from its rows and, for frozen embeddings, the base model.

    most frequent label      argmax over labels of the number of training rows
    TF-IDF                   logistic regression on L2-normalized tf-idf, tf = 1 + ln(count): words (1- and 2-grams) and
                             characters within words (3- to 5-grams)
    BM25                     passages by the words that they share with a query (`worker.engine.baselines.retrieval`)
    frozen embeddings        logistic regression on the mean of the last hidden states over a text's tokens or an
                             image's patches, standardized by the training rows
    pixels                   logistic regression on standardized pixels

    most frequent tag        argmax over tags of the number of training words
    random tags              each word's tag drawn with the shares of the training words
    tag of the word          of each word its most frequent training tag; of an unseen one the most frequent tag

    answer length            of preference pairs: the longer answer, or one at random

The regularization C is chosen on the validation split, never on the test split (0.1, 1, 10 or 100; without a validation
split, 1). Everything is deterministic: the same rows give the same scores.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_union
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel

from app.domain.data.baselines import BASELINES, MOST_TRAINED_ROWS, Baseline, BaselineRequest
from app.domain.data.dataset import (
    ImageRow,
    LabelledRow,
    PairRow,
    PreferenceChatRow,
    PreferenceRow,
    QueryRow,
    Row,
    Split,
    TaggedRow,
    items_hash,
)
from app.domain.messages import _
from app.domain.tasks import TASKS, MetricName
from worker.engine.baselines.few_shot import few_shot_answers
from worker.engine.baselines.retrieval import WORD, Bm25, Corpus, items
from worker.engine.baselines.retrieval import scores as query_scores
from worker.engine.baselines.small_model import impossible, load_small
from worker.engine.data.batches.batches import padded, read
from worker.engine.data.images import Normalization, check_shape, load_image_processor, opened, pngs, resized, shape_of
from worker.engine.tasks.sequence_classification import token_ids
from worker.engine.tasks.token_classification import tag_scores
from worker.text_metrics import exact_match, rouge_l

REGULARIZATIONS = (0.1, 1.0, 10.0, 100.0)
MOST_FEATURES = 200_000
"""Most features of each kind, words and character n-grams; the most frequent are kept."""
BATCH_TOKENS = 8192
MOST_SIMILARITIES = 2**22
"""Similarities of queries and passages that are in memory at a time."""
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|\n")

Features = Any
"""[N, F]: a dense or a sparse matrix."""
Scores = dict[MetricName, NDArray[np.float64]]


def random_answer(test: Sequence[Row]) -> Scores:
    """Right for about half of the pairs."""
    return _ranked([0] * len(test))


def longer_answer(train: Sequence[Row], test: Sequence[Row]) -> Scores:
    """The longer answer, in characters; the shorter one if that is right for more of the training pairs."""
    direction = 1 if sum(map(np.sign, _longer(train))) >= 0 else -1
    return _ranked([direction * longer for longer in _longer(test)])


def _longer(rows: Sequence[Row]) -> list[int]:
    """By how many characters each chosen answer is longer than the rejected one."""
    answers = [row.answers for row in rows if isinstance(row, PreferenceRow | PreferenceChatRow)]
    return [len(better) - len(worse) for better, worse in answers]


def _ranked(margins: Sequence[int]) -> Scores:
    """Right where the margin of the chosen answer is positive; where it is 0, at random. The same ranking is compared
    with every metric of the task."""
    draw = np.random.default_rng(0)
    right = np.array([margin > 0 if margin else draw.random() < 0.5 for margin in margins], dtype=np.float64)
    return dict.fromkeys((metric for task in TASKS.values() if task.prefers for metric in task.scored), right)


SIDE = 16
"""Pixels of a side to which images are squeezed for the baseline on raw pixels: 768 features."""
BATCH = 32
"""Images of a batch of the frozen model."""


def raw_pixels(rows: Sequence[Row]) -> NDArray[np.float32]:
    """Images squeezed to `SIDE` × `SIDE` pixels in RGB, from 0 to 1: [N, 3 · SIDE²]."""
    features = np.empty((len(rows), 3 * SIDE * SIDE), dtype=np.float32)
    for place, png in pngs(rows):
        features[place] = np.asarray(opened(png).resize((SIDE, SIDE)), dtype=np.float32).ravel() / 255
    return features


class FrozenFeatures:
    """The mean last hidden state of an image's patches and special tokens."""

    def __init__(self, request: BaselineRequest) -> None:
        """Raises `RunFailed`."""
        self._processor, self._model = load_small(request, AutoModel, load_image_processor)
        check_shape(shape_of(self._processor), self._model.config)
        self._normalization = Normalization.of(self._processor)

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """[N, H]."""
        means = np.empty((len(rows), self._model.config.hidden_size), dtype=np.float32)
        images = pngs(rows)
        while some := list(islice(images, BATCH)):
            pixels = torch.from_numpy(np.stack(resized(self._processor, [opened(png) for _place, png in some])))
            with torch.inference_mode():
                hidden = self._model(pixel_values=self._normalization.of_pixels(pixels)).last_hidden_state
            means[[place for place, _png in some]] = hidden.float().mean(1).numpy()
        return means


def standardized(features: dict[Split, NDArray[np.float32]]) -> dict[Split, Any]:
    """By the mean and the standard deviation of the training rows."""
    scaler = StandardScaler().fit(features["train"])
    return {split: scaler.transform(values) for split, values in features.items()}


def baseline(request: BaselineRequest, dataset: Path) -> Baseline:
    """Compute a baseline; `dataset` is a local Parquet file. Raises `RunFailed` if it cannot be computed."""
    began = time.perf_counter()
    rows = read(str(dataset), request.dataset_format, train_fraction=request.train_fraction)
    every = len(rows["train"])
    if BASELINES[request.kind].learns and every > MOST_TRAINED_ROWS:  # at random: rows may lie sorted by label
        rows["train"] = random.Random(0).sample(rows["train"], MOST_TRAINED_ROWS)
    scores, metrics = _KINDS[request.kind](request, rows)
    return Baseline(
        kind=request.kind,
        metrics={name: float(values.mean()) for name, values in scores.items()} | metrics,
        scores={name: values.tolist() for name, values in scores.items()},
        items_hash=items_hash([row.item for row in _items(rows["test"])]),
        trained_rows=len(rows["train"]),
        train_rows=every,
        seconds=time.perf_counter() - began,
    )


def _most_frequent(request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    most_frequent = np.bincount(_labels(rows["train"])).argmax()
    return _judged(np.full(len(rows["test"]), most_frequent), rows["test"], len(request.labels))


def _tfidf(request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    common: dict[str, Any] = {"sublinear_tf": True, "min_df": 2, "max_features": MOST_FEATURES, "dtype": np.float32}
    vectorizer = make_union(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, **common),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **common),
    )
    texts = {split: _texts(rows[split]) for split in rows}
    try:
        features: dict[Split, Features] = {"train": vectorizer.fit_transform(texts["train"])}
    except ValueError as error:
        if "empty vocabulary" not in str(error) and "no terms remain" not in str(error).lower():
            raise
        raise impossible(_("The training texts have no words in common. Choose another dataset.")) from error
    for split in texts:
        if split != "train" and texts[split]:
            features[split] = vectorizer.transform(texts[split])
    return _regression(features, rows, len(request.labels))


def _embeddings(request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    if request.dataset_format == "labelled-images":
        images = FrozenFeatures(request)
        hidden = {split: images(rows[split]) for split in rows if rows[split]}
    else:
        encode = _encoder(request)
        hidden = {split: encode(_texts(rows[split])) for split in rows if rows[split]}
    return _regression(standardized(hidden), rows, len(request.labels))


def _pixels(request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    pixels = {split: raw_pixels(rows[split]) for split in rows if rows[split]}
    return _regression(standardized(pixels), rows, len(request.labels))


def _regression(
    features: Mapping[Split, Features], rows: dict[Split, list[Row]], labels: int
) -> tuple[Scores, dict[MetricName, float]]:
    """Scores of the logistic regression whose C is best on the validation split; of equal ones the smallest."""
    train, validation = _labels(rows["train"]), rows["validation"]
    if len(set(train.tolist())) < 2:
        raise impossible(_("All training rows have the same label. Choose a dataset with at least two labels."))
    candidates = REGULARIZATIONS if validation else (1.0,)
    models = [LogisticRegression(C=c, max_iter=1000).fit(features["train"], train) for c in candidates]
    best = models[0]
    if validation:
        truth = _labels(validation)
        best = max(models, key=lambda model: float((model.predict(features["validation"]) == truth).mean()))
    return _judged(best.predict(features["test"]), rows["test"], labels)


def _judged(predicted: NDArray[np.int64], test: Sequence[Row], labels: int) -> tuple[Scores, dict[MetricName, float]]:
    truth = _labels(test)
    f1 = f1_score(truth, predicted, labels=range(labels), average="macro", zero_division=0)
    return {"accuracy": (predicted == truth).astype(np.float64)}, {"macro_f1": float(f1)}


def _most_frequent_answer(
    _request: BaselineRequest, rows: dict[Split, list[Row]]
) -> tuple[Scores, dict[MetricName, float]]:
    counts = Counter(pair.completion.strip() for pair in _pairs(rows["train"]))
    [(answer, _count)] = counts.most_common(1)
    return _written(lambda _prompt: answer, rows["test"])


def _first_sentence(_request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    return _written(lambda prompt: SENTENCE_END.split(prompt.strip(), 1)[0], rows["test"])


def _few_shot(request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    answers = iter(few_shot_answers(request, _pairs(rows["train"]), _pairs(rows["test"])))
    return _written(lambda _prompt: next(answers), rows["test"])


def _written(answer: Callable[[str], str], test: Sequence[Row]) -> tuple[Scores, dict[MetricName, float]]:
    pairs = [(answer(pair.prompt), pair.completion) for pair in _pairs(test)]
    return {
        "exact_match": np.array([exact_match(*pair) for pair in pairs]),
        "rouge_l": np.array([rouge_l(*pair) for pair in pairs]),
    }, {}


def _random_passage(_request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    generator = np.random.default_rng(0)
    return _retrieved(
        rows["test"], lambda corpus: lambda queries: generator.random((len(queries), len(corpus.passages)))
    )


def _bm25(_request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    return _retrieved(rows["test"], lambda corpus: Bm25(corpus.passages))


def _retrieved(
    test: Sequence[Row], search_in: Callable[[Corpus], Callable[[Sequence[str]], NDArray[Any]]]
) -> tuple[Scores, dict[MetricName, float]]:
    """`search_in`: from the corpus to a function from n queries to their similarities, [n, C]."""
    pairs = [row for row in test if isinstance(row, QueryRow)]
    corpus, ranks = Corpus(pairs), []
    similarities = search_in(corpus)
    at_once = max(1, MOST_SIMILARITIES // len(corpus.passages))
    for start in range(0, len(corpus.items), at_once):
        some = corpus.items[start : start + at_once]
        ranks.append(corpus.ranks(similarities([pairs[i].query for i in some]), some))
    return query_scores(np.concatenate(ranks)), {}


def _items(test: Sequence[Row]) -> Sequence[Row]:
    """The rows that have a score each."""
    return [test[place] for place in items(test)] if isinstance(test[0], QueryRow) else test


def _most_frequent_tag(
    request: BaselineRequest, rows: dict[Split, list[Row]]
) -> tuple[Scores, dict[MetricName, float]]:
    most_frequent = int(np.bincount(_tags(rows["train"])).argmax())
    return _tagged(lambda _word: most_frequent, rows["test"], request.labels)


def _random_tags(request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    counts = np.bincount(_tags(rows["train"]))
    draw = np.random.default_rng(0)
    return _tagged(lambda _word: int(draw.choice(len(counts), p=counts / counts.sum())), rows["test"], request.labels)


def _word_tag(request: BaselineRequest, rows: dict[Split, list[Row]]) -> tuple[Scores, dict[MetricName, float]]:
    of_word: dict[str, Counter[int]] = {}
    for row in _tagged_rows(rows["train"]):
        for word, tag in zip(row.tokens, row.tags, strict=True):
            of_word.setdefault(word, Counter())[tag] += 1
    # of equally frequent tags the first label's, whatever the order of the rows
    usual = {word: min(tags, key=lambda tag: (-tags[tag], tag)) for word, tags in of_word.items()}
    most_frequent = int(np.bincount(_tags(rows["train"])).argmax())
    return _tagged(lambda word: usual.get(word, most_frequent), rows["test"], request.labels)


def _tagged(
    tag: Callable[[str], int], test: Sequence[Row], labels: Sequence[str]
) -> tuple[Scores, dict[MetricName, float]]:
    sentences = _tagged_rows(test)
    predicted = [[tag(word) for word in row.tokens] for row in sentences]
    return tag_scores([row.tags for row in sentences], predicted, labels)


def _encoder(request: BaselineRequest) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Return a function from N texts to the mean last hidden state of each text's tokens, [N, H]. Raises
    `RunFailed`."""
    tokenizer, loaded = load_small(request, AutoModel)
    model = loaded.get_encoder() if loaded.config.is_encoder_decoder else loaded
    pad = tokenizer.pad_token_id or 0

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        tokens = token_ids(tokenizer, list(texts), truncation=True, max_length=request.max_length)
        sequences = [np.asarray(ids or [pad], dtype=np.int64) for ids in tokens]
        means = np.empty((len(texts), model.config.get_text_config().hidden_size), dtype=np.float32)
        with torch.inference_mode():
            for places in _batches([len(ids) for ids in sequences]):
                ids, mask = padded([sequences[i] for i in places], pad)
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
                means[places] = ((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
        return means

    return encode


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts, the longest first, so that each batch has about `BATCH_TOKENS` tokens with its padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        rows = max(1, BATCH_TOKENS // lengths[order[0]])
        yield order[:rows]
        order = order[rows:]


def _texts(rows: Sequence[Row]) -> list[str]:
    return [row.text or "" for row in rows if isinstance(row, LabelledRow)]


def _labels(rows: Sequence[Row]) -> NDArray[np.int64]:
    return np.array([row.label for row in rows if isinstance(row, LabelledRow | ImageRow)], dtype=np.int64)


def _tagged_rows(rows: Sequence[Row]) -> list[TaggedRow]:
    return [row for row in rows if isinstance(row, TaggedRow)]


def _tags(rows: Sequence[Row]) -> NDArray[np.int64]:
    return np.array([tag for row in _tagged_rows(rows) for tag in row.tags], dtype=np.int64)


def _pairs(rows: Sequence[Row]) -> list[PairRow]:
    return [row for row in rows if isinstance(row, PairRow)]


_KINDS: dict[str, Callable[[BaselineRequest, dict[Split, list[Row]]], tuple[Scores, dict[MetricName, float]]]] = {
    "most-frequent": _most_frequent,
    "tfidf": _tfidf,
    "embeddings": _embeddings,
    "pixels": _pixels,
    "most-frequent-tag": _most_frequent_tag,
    "random-tags": _random_tags,
    "word-tag": _word_tag,
    "most-frequent-answer": _most_frequent_answer,
    "first-sentence": _first_sentence,
    "few-shot": _few_shot,
    "random-passage": _random_passage,
    "bm25": _bm25,
    "random-answer": lambda _request, rows: (random_answer(rows["test"]), {}),
    "longer-answer": lambda _request, rows: (longer_answer(rows["train"], rows["test"]), {}),
}
