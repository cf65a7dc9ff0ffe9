"""Models in memory, and their answers."""

import gc
import json
import math
import weakref
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from app.domain.data.images import png_of
from app.domain.errors import Invalid, Unavailable
from app.domain.methods import (
    BitFitSpec,
    BottleneckAdapterSpec,
    FullSpec,
    HeadOnlySpec,
    LoraSpec,
    MethodSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
)
from app.domain.models.exports import ExportFormat
from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import TrainJob
from app.features.serving.rules import MOST_WORDS, Decoding, InferenceRequest, ModelJob, Picture, Subject, WorkRequest
from tests.support.rows import exported, inferred
from tests.support.tiny import images as tiny_images
from tests.support.tiny import tags as tiny_tags
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine import adapted as tried
from worker.engine.models.load import load
from worker.engine.models.trained import base_model
from worker.features.serving.inference import answer
from worker.features.serving.inference import answer as answering
from worker.features.serving.inference import generate as generating
from worker.features.serving.inference import models as inference_models
from worker.features.serving.inference.answer import Answering, Cancelled
from worker.features.serving.inference.generate import Token
from worker.features.serving.inference.models import WORKING_BYTES, Models
from worker.features.serving.inference.prompts import Encoder
from worker.features.shipping.exporting import export


def storages(model: torch.nn.Module) -> set[int]:
    return {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_runs_of_one_base_model_share_its_tensors_and_answer_as_trained(name: str, tmp_path: Path) -> None:
    own: list[MethodSpec] = [BitFitSpec(), HeadOnlySpec()] if name == "bert" else [PrefixSpec(num_virtual_tokens=4)]
    pissa = LoraSpec(r=2, init_lora_weights="pissa")
    specs: list[MethodSpec] = [LoraSpec(r=4), pissa, BottleneckAdapterSpec(bottleneck_size=8), *own, FullSpec()]
    runs = [inferred.trained(tmp_path, spec, name, number) for number, spec in enumerate(specs, 1)]
    base = load(str(tmp_path / "1" / "base"), "", tried.MODELS[name], runs[0][0].job.labels, 0).model.eval()
    jobs = [job for job, _model in runs]
    held = inferred.models().ready([*jobs, inferred.base_of(jobs[0])], 0, lambda *_: None, lambda: None)
    with torch.inference_mode():
        for loaded, (_job, trained), spec in zip(held, runs, specs, strict=False):
            torch.testing.assert_close(tried.logits(loaded.model, name), tried.logits(trained, name), msg=spec.kind)
        torch.testing.assert_close(tried.logits(held[-1].model, name), tried.logits(base, name), msg="base model")
    shared = storages(held[0].model)
    *adapters, full, untrained = held
    for loaded in (*adapters, untrained):
        assert len(storages(loaded.model) & shared) > 10, loaded.job.job.spec.method.kind
    assert not storages(full.model) & shared and full.base is None


@pytest.mark.slow
def test_a_loaded_model_does_not_serve_with_another_access_to_the_hub(tmp_path: Path) -> None:
    """The token was removed or replaced, or the run has another owner; what a run saved as a whole needs none."""
    runs = [inferred.trained(tmp_path, spec, "bert", number)[0] for number, spec in enumerate((LoraSpec(), FullSpec()))]
    models, loading = inferred.models(), list[int]()
    ada, new = HubAccess(user_id=1, token="hf_ada"), HubAccess(user_id=1, token="hf_new")
    for access in (ada, ada, new, HubAccess(user_id=2, token="hf_new"), None, None):
        jobs = [job.model_copy(update={"hub": access}) for job in runs]
        held = models.ready(jobs, 0, lambda place, _bytes: loading.append(place), lambda: None)
        assert held[0].job.hub == access and len(models._bases) == 1
    assert loading == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("kind", [PromptSpec, PrefixSpec, PTuningSpec])
def test_virtual_tokens_generate_what_forward_passes_predict(kind: type[MethodSpec], tmp_path: Path) -> None:
    job, trained = inferred.trained(tmp_path, kind.model_validate({"num_virtual_tokens": 4}), "llama")
    held = inferred.models().ready([job], 0, lambda *_: None, lambda: None)[0]
    prompt = torch.tensor([[3, 4, 5, 6]])
    options = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 12, "do_sample": False}
    ids = prompt
    with torch.inference_mode():
        for _token in range(12):
            logits = trained(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
        written = held.model.generate(input_ids=prompt, eos_token_id=None, **options)
    assert written.tolist() == ids.tolist()


@pytest.mark.by_day
@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("named", [True, False], ids=["own", "spoilt"])
def test_biases_change_no_other_run(bias: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`spoilt`: as if a method saved tensors under names that are not recognized as the base model's."""
    if not named:
        monkeypatch.setattr(inference_models, "_stored", lambda _weights: set())
    specs = [LoraSpec(r=4), LoraSpec.model_validate({"r": 4, "bias": bias})]
    runs = [inferred.trained(tmp_path, spec, "bert", number) for number, spec in enumerate(specs, 1)]
    jobs = [job for job, _model in runs]
    models = inferred.models()
    models.ready(jobs[:1], 0, lambda *_: None, lambda: None)
    loading: list[int] = []
    held = models.ready(jobs, 0, lambda place, _bytes: loading.append(place), lambda: None)
    assert (held[1].base is not None) == named and loading == ([1] if named else [1, 0])
    with torch.inference_mode():
        for loaded, (_job, trained) in zip([*held, *models.ready(jobs, 0, lambda *_: None, lambda: None)],
                                           runs * 2, strict=True):  # fmt: skip
            torch.testing.assert_close(tried.logits(loaded.model, "bert"), tried.logits(trained, "bert"))


def test_bfloat16_rounds_parameters_and_no_rotary_frequencies(tmp_path: Path) -> None:
    job, _model = inferred.trained(tmp_path, LoraSpec(r=4), "llama")
    job = job.model_copy(update={"dtype": "bfloat16"})
    held = inferred.models().ready([job, inferred.base_of(job)], 0, lambda *_: None, lambda: None)
    for loaded in held:
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
        floats = [buffer for buffer in loaded.model.buffers() if buffer.is_floating_point()]
        assert floats and {buffer.dtype for buffer in floats} == {torch.float32}


@pytest.mark.slow
def test_the_prediction_counts_a_shared_base_model_once_and_a_whole_model_alone(tmp_path: Path) -> None:
    one, two, full = (
        inferred.trained(tmp_path, spec, "bert", number)[0]
        for number, spec in enumerate((LoraSpec(r=4), LoraSpec(r=2), FullSpec()), 1)
    )
    models = inferred.models()
    assert models.predicted([one]) == 1010
    assert models.predicted([one, two, inferred.base_of(one)]) == 1020
    assert models.predicted([one, full]) == 2010
    models.ready([one], 0, lambda *_: None, lambda: None)
    assert models.predicted([one, two]) == 10
    other_type = two.model_copy(update={"dtype": "bfloat16"})
    assert models.predicted([other_type]) == 1010, "another type is another base model in memory"


def test_models_that_do_not_fit_beside_a_run_are_refused_with_the_numbers(tmp_path: Path) -> None:
    job, _model = inferred.trained(tmp_path, LoraSpec(r=4), "bert")
    job = job.model_copy(update={"base_bytes": 300 << 20})
    models = Models(lambda: 700 << 20)
    with pytest.raises(Unavailable) as refused:
        models.ready([job], 400 << 20, lambda *_: None, lambda: None)
    needed = ((300 << 20) + WORKING_BYTES) >> 20
    assert f"take {needed} MiB" in refused.value.message and "300 MiB free" in refused.value.message
    assert "another 400 MiB" in refused.value.message
    assert models.keys == []
    models.ready([job], 0, lambda *_: None, lambda: None)  # the run has ended
    assert models.keys == [job.key]


@pytest.mark.slow
def test_the_model_that_was_unused_for_the_longest_time_gives_way(tmp_path: Path) -> None:
    jobs = [inferred.trained(tmp_path, FullSpec(), "bert", number)[0] for number in (1, 2, 3)]
    models = inferred.models()
    for job in jobs[:2]:
        models.ready([job], 0, lambda *_: None, lambda: None)
    models.ready(jobs[:1], 0, lambda *_: None, lambda: None)  # the first is used again
    gone = weakref.ref(models.ready(jobs[1:2], 0, lambda *_: None, lambda: None)[0].model)
    models.ready(jobs[:1], 0, lambda *_: None, lambda: None)
    answers = iter([0, inferred.PLENTY])
    models._available = lambda: next(answers)
    models.ready(jobs[2:], 0, lambda *_: None, lambda: None)
    gc.collect()
    assert models.keys == [jobs[0].key, jobs[2].key] and gone() is None


@pytest.mark.slow
def test_idle_models_and_the_base_model_that_only_they_shared_are_unloaded(tmp_path: Path) -> None:
    job, _model = inferred.trained(tmp_path, LoraSpec(r=4), "bert")
    models = inferred.models()
    held = models.ready([job], 0, lambda *_: None, lambda: None)[0]
    used, gone = held.used_at, weakref.ref(held.model)
    models.unload(used - 1)
    assert models.keys == [job.key] and models.bytes == 1010
    del held
    models.unload(used + 1)
    assert models.keys == [] and models.bytes == 0 and gone() is None


TEXT = "the cat of red"
LONG = "the cat " * 20


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained classifier's job and model."""
    return inferred.trained(tmp_path_factory.mktemp("classifier"), LoraSpec(r=4), "bert")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained decoder's job and model."""
    return inferred.trained(tmp_path_factory.mktemp("writer"), LoraSpec(r=4), "llama")


def test_probabilities_are_those_of_the_run_s_model_in_the_order_of_the_inputs(classifier: Any) -> None:
    job, model = classifier
    texts = [row.text for row in tiny.rows()[:20]]
    found = inferred.predictions(inferred.asked(inferred.models(), [job], texts))
    words = tiny.tokenizer()
    for text, prediction in zip(texts, found, strict=True):
        with torch.no_grad():
            expected = model(**words(text, return_tensors="pt")).logits.softmax(1)[0]
        assert list(prediction["probabilities"]) == tiny.LABELS
        assert list(prediction["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert prediction["label"] == tiny.LABELS[int(expected.argmax())]


def test_importance_is_the_fall_of_the_probability_when_a_word_is_masked(classifier: Any) -> None:
    job, _model = classifier
    [plain] = inferred.predictions(inferred.asked(inferred.models(), [job], [TEXT], "compare", importance=True))
    masked = ["[MASK] cat of red", "the [MASK] of red", "the cat [MASK] red", "the cat of [MASK]"]
    without = inferred.predictions(inferred.asked(inferred.models(), [job], masked))
    falls = [plain["probabilities"][plain["label"]] - p["probabilities"][plain["label"]] for p in without]
    assert [word for word, _fall in plain["importance"]] == TEXT.split()
    assert [fall for _word, fall in plain["importance"]] == pytest.approx(falls, abs=1e-5)
    assert max(map(abs, falls)) > 1e-4


def test_a_text_longer_than_the_run_reads_is_refused_by_its_place_or_truncated(classifier: Any) -> None:
    job, _model = classifier
    with pytest.raises(Invalid) as refused:
        inferred.asked(inferred.models(), [job], [TEXT, LONG])
    [error] = refused.value.fields
    assert error.path == "inputs.1" and "42 tokens" in error.message and "at most 16 (max_length)" in error.message
    cut = inferred.predictions(inferred.asked(inferred.models(), [job], [LONG, "the cat " * 7], truncate=True))
    assert cut[0]["probabilities"] == pytest.approx(cut[1]["probabilities"], abs=1e-6)
    assert cut[0]["tokens"] == 16


def test_a_classifier_reads_no_conversation(classifier: Any) -> None:
    with pytest.raises(Invalid, match="reads no conversation"):
        inferred.asked(inferred.models(), [classifier[0]], [[{"role": "user", "content": "cat"}]])


def test_tokens_arrive_one_by_one_and_are_the_text_of_the_evaluation(writer: Any) -> None:
    job, _model = writer
    prompts = ["count from one", "count"]
    texts = [p["text"] for p in inferred.predictions(inferred.asked(inferred.models(), [job], prompts))]
    for prompt, text in zip(prompts, texts, strict=True):
        *events, last = inferred.asked(inferred.models(), [job], [prompt], "compare")
        tokens = [event for event in events if event["type"] == "token"]
        assert "".join(token["text"] for token in tokens) == text
        assert last["finish"] in ("stop", "length") and last["tokens"] == len(tokens) <= 8
        for token in tokens:
            assert token["top"][0] == [token["id"], token["text"], token["logprob"]], "greedy takes the first"
            assert len(token["top"]) == 3 and token["logprob"] <= 0
    assert any(texts)


def test_a_token_s_probability_is_that_of_the_model(writer: Any) -> None:
    job, model = writer
    held = inferred.models().ready([job], 0, lambda *_: None, lambda: None)[0]
    [prompt] = Encoder(held, 8).encode(["count from"], truncate=False)
    seen: list[Token] = []
    how = Decoding(temperature=1.5, seed=3)
    generating.generate(held, prompt, how, 4, 2, seen.append, lambda: False)
    ids = prompt.tolist()
    for token in seen:
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(0)
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-4)
        ids.append(token.id)
    assert seen


@pytest.mark.slow
def test_a_seed_repeats_what_was_sampled_and_another_seed_differs(writer: Any) -> None:
    def text(seed: int) -> str:
        decoding = {"temperature": 2.0, "seed": seed, "max_new_tokens": 20}
        events = inferred.asked(inferred.models(), [writer[0]], ["count"], "predict", decoding=decoding)
        return str(inferred.predictions(events)[0]["text"])

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(5)}) > 1


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(writer: Any) -> None:
    job, _model = writer
    whole = "".join(e.get("text", "") for e in inferred.asked(inferred.models(), [job], ["count from one"], "compare"))
    words = whole.split()
    stop = next(word for word in words[1:] if word != words[0])[1:]
    *events, last = inferred.asked(inferred.models(), [job], ["count from one"], "compare", decoding={"stop": [stop]})
    assert "".join(e.get("text", "") for e in events) == whole[: whole.index(stop)] and last["finish"] == "stop"


def test_a_stop_text_also_ends_a_greedy_prediction(writer: Any) -> None:
    job, _model = writer
    [whole] = inferred.predictions(inferred.asked(inferred.models(), [job], ["count from one"]))
    words = whole["text"].split()
    stop = next(word for word in words[1:] if word != words[0])[1:]
    stopped = inferred.asked(inferred.models(), [job], ["count from one"], decoding={"stop": [stop]})
    [prediction] = inferred.predictions(stopped)
    assert prediction["text"] == whole["text"][: whole["text"].index(stop)]


@pytest.mark.parametrize("decoding", [{}, {"temperature": 1.0}], ids=["greedy", "sampled"])
def test_a_long_batch_sends_heartbeats(
    writer: Any, decoding: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "HEARTBEAT_SECONDS", 0.0)
    events = inferred.asked(inferred.models(), [writer[0]], ["count from one"], decoding=decoding)
    types = [event["type"] for event in events]
    loaded, answers = types.index("loaded"), types.index("answers")
    assert "working" in types[:loaded] and types[loaded + 1 : answers].count("working") > 1


def test_a_token_that_is_forced_has_no_impossible_alternatives(tmp_path: Path) -> None:
    job, _model = inferred.trained(tmp_path, FullSpec(), "t5")
    loaded = inferred.models()
    held = loaded.ready([job], 0, lambda *_: None, lambda: None)[0]
    held.model.generation_config.forced_bos_token_id = 5
    events = inferred.asked(loaded, [job], ["count from one"], "compare")
    first = next(event for event in events if event["type"] == "token")
    assert first["id"] == 5 and [other[0] for other in first["top"]] == [5]
    json.dumps(events, allow_nan=False)


def test_a_prompt_may_use_the_whole_context_if_it_leaves_room_for_the_answer(writer: Any) -> None:
    job, _model = writer
    prompt = "count " * 30
    with pytest.raises(Invalid, match="at most 24"):
        inferred.asked(inferred.models(), [job], [prompt])
    assert inferred.predictions(inferred.asked(inferred.models(), [job], [prompt], whole_context=True))
    with pytest.raises(Invalid, match="at most 24 beside the answer"):
        inferred.asked(inferred.models(), [job], [prompt], whole_context=True, decoding={"max_new_tokens": 40})
    with pytest.raises(Invalid, match="leave no room"):
        inferred.asked(inferred.models(), [job], ["count"], decoding={"max_new_tokens": 64})


def test_models_answer_one_after_the_other_and_the_base_model_differs(writer: Any) -> None:
    job, _model = writer
    events = inferred.asked(inferred.models(), [inferred.base_of(job), job], ["count from one"], "compare")
    order = [event["subject"] for event in events if event["type"] in ("token", "finished")]
    assert order == sorted(order) and set(order) == {0, 1}
    first = [next(e["logprob"] for e in events if e["type"] == "token" and e["subject"] == n) for n in (0, 1)]
    assert not math.isclose(*first, abs_tol=1e-6)


@pytest.mark.parametrize("after", [0, 2])
def test_a_reader_who_leaves_ends_the_answer(writer: Any, after: int) -> None:
    job, _model = writer
    events: list[Any] = []
    request = InferenceRequest(id="1", kind="compare", subjects=[Subject(run_id=1)], inputs=["count"])
    left: Callable[[], bool] = lambda: sum(e["type"] == "token" for e in events) >= after  # noqa: E731
    with pytest.raises(Cancelled):
        Answering(inferred.models(), WorkRequest(request=request, jobs=[job]), events.append, left).run()
    assert sum(e["type"] == "token" for e in events) == after


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_other_architectures_stream_what_they_generate(kind: str, tmp_path: Path) -> None:
    job, _model = inferred.trained(tmp_path, FullSpec(), kind)
    [prediction] = inferred.predictions(inferred.asked(inferred.models(), [job], ["count from one"]))
    events = inferred.asked(inferred.models(), [job], ["count from one"], "compare")
    assert "".join(e["text"] for e in events if e["type"] == "token") == prediction["text"]
    assert events[-1]["type"] == "finished"


LORA = LoraSpec(r=4)


def evaluated(folder: Path, job: TrainJob) -> tuple[ModelJob, Any, list[Any]]:
    """A run, its test items, and its own evaluation's predictions of them."""
    found, model = exported.trained(folder, job, ExportFormat.MERGED_FLOAT32)
    _base, processor = base_model(job, torch.float32)
    examples, predictions = export.predict(found, model, processor, lambda _share: None)
    whole = ModelJob(key="run 1/1", job=job, weights=found.weights, whole=found.whole, base_bytes=1000, own_bytes=10)
    return whole, examples.rows, predictions.columns["prediction"]


def tagger(folder: Path, spec: Any = LORA) -> tuple[ModelJob, Any, list[list[int]]]:
    """A run that tags words, its test items, and the tags that its evaluation gave them."""
    return evaluated(folder, tiny_tags.job(folder / "job", tiny.save_model(folder / "base"), spec))


@pytest.mark.parametrize("spec", [LORA, PromptSpec(num_virtual_tokens=2)], ids=lambda one: one.kind)
def test_words_have_the_tags_of_the_runs_own_evaluation(tmp_path: Path, spec: Any) -> None:
    job, rows, tags = tagger(tmp_path, spec)
    found = inferred.predictions(inferred.asked(inferred.models(), [job], [row.tokens for row in rows]))
    named = [[tiny_tags.TAGS[answer] for answer in row] for row in tags]
    assert [[word["tag"] for word in one["words"]] for one in found] == named
    assert len({answer for row in named for answer in row}) > 1
    assert all(0.25 <= word["probability"] <= 1 for one in found for word in one["words"])


def test_entities_lie_at_their_characters_and_side_by_side_models_answer_alike(tmp_path: Path) -> None:
    job, _rows, _tags = tagger(tmp_path)
    events = inferred.asked(inferred.models(), [job, inferred.base_of(job)], ["  the cat, (red) dog!"], "compare")
    own, base = [event["predictions"][0] for event in events if event["type"] == "answers"]
    text = "  the cat, (red) dog!"
    assert [word["text"] for word in own["words"]] == ["the", "cat", ",", "(", "red", ")", "dog", "!"]
    for one in (own, base):
        assert all(text[part["start"] : part["end"]] == part["text"] for part in (*one["words"], *one["entities"]))
    assert own["words"] != base["words"]


def test_too_many_words_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    most = ["!" * MOST_WORDS]
    assert len(answer.sentences(most, lambda: None)[0].words) == MOST_WORDS
    with pytest.raises(Invalid) as refused:
        answer.sentences(["a", "!" * 100_000], lambda: None)
    assert [(one.path, str(one.message)) for one in refused.value.fields] == [
        ("inputs.1", "This input has more than 10000 words")
    ]
    monkeypatch.setattr(answer, "MOST_REQUEST_WORDS", 2 * MOST_WORDS)
    assert len(answer.sentences(most * 2, lambda: None)) == 2
    with pytest.raises(Invalid, match="more than 20000 words together"):
        answer.sentences([*most * 2, ["a"]], lambda: None)


def test_a_reader_who_leaves_ends_the_splitting_of_texts() -> None:
    read = 0

    def between() -> None:
        nonlocal read
        read += 1
        if read == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        answer.sentences(["a"] * 5, between)


@pytest.mark.slow
def test_too_many_tokens_are_refused_or_words_beyond_them_get_no_tag(tmp_path: Path) -> None:
    job, _rows, _tags = tagger(tmp_path)
    with pytest.raises(Invalid, match="42 tokens"):
        inferred.asked(inferred.models(), [job], ["the cat " * 20])
    [cut] = inferred.predictions(inferred.asked(inferred.models(), [job], ["the cat " * 20], truncate=True))
    assert [("tag" in word) for word in cut["words"]] == [True] * 14 + [False] * 26 and cut["tokens"] == 16
    assert inferred.predictions(inferred.asked(inferred.models(), [job], ["cat", ["the", "dog"]]))[1]["tokens"] == 4
    with pytest.raises(Invalid, match="reads no conversation"):
        inferred.asked(inferred.models(), [job], [[{"role": "user", "content": "cat"}]])


def image_classifier(folder: Path, spec: Any) -> tuple[ModelJob, Any, list[int]]:
    """A run that classifies images, its test items, and the labels that its evaluation gave them."""
    return evaluated(folder, tiny_images.job(folder / "job", tiny_images.save_model(folder / "base"), spec))


@pytest.mark.parametrize("spec", [FullSpec(), LoraSpec(r=4)], ids=lambda spec: spec.kind)
def test_pictures_have_the_labels_of_the_runs_own_evaluation(spec: Any, tmp_path: Path) -> None:
    job, _rows, labels = image_classifier(tmp_path, spec)
    pictures = [Picture.of(row.image) for row in tiny_images.rows() if row.split == "test"]
    found = inferred.predictions(inferred.asked(inferred.models(), [job], pictures[:16]))
    assert [one["label"] for one in found] == [tiny_images.LABELS[label] for label in labels[:16]]
    assert all(sum(one["probabilities"].values()) == pytest.approx(1) for one in found)
    half = job.model_copy(update={"dtype": "bfloat16", "key": "run 1/1 bf16"})
    rounded = inferred.predictions(inferred.asked(inferred.models(), [half], pictures[:16]))
    for one, other in zip(found, rounded, strict=True):
        assert list(other["probabilities"].values()) == pytest.approx(list(one["probabilities"].values()), abs=0.05)


def test_side_by_side_models_show_what_the_first_one_reads(tmp_path: Path) -> None:
    job, *_others = image_classifier(tmp_path, LoraSpec(r=4))
    png = png_of(*tiny_images.picture(3, 20, 12))
    events = inferred.asked(inferred.models(), [job, inferred.base_of(job)], [Picture.of(png)], "compare")
    [seen] = [event for event in events if event["type"] == "seen"]
    assert (seen["size"], seen["stored_size"]) == ([16, 16], [20, 12])
    image = Image.open(BytesIO(b64decode(seen["image"].removeprefix("data:image/png;base64,"))))
    assert image.size == (16, 16)
    own, base = [event["predictions"][0] for event in events if event["type"] == "answers"]
    assert own["probabilities"] != base["probabilities"]
