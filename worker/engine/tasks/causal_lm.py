"""Causal language modelling: a decoder learns to continue a prompt (supervised fine-tuning), or to model plain text.

    row      x_1 … x_p  y_1 … y_c  EOS        prompt and completion, built by `worker.engine.data.lines`
    input    x_1 … x_p  y_1 … y_c             tokens [T]
    target   –   …  y_1 y_2 …  EOS            targets [T], already shifted: position t predicts token t + 1
    loss     −log p(target), summed over the positions with a target

Since a row's tokens and targets have the same length, rows can be packed without one predicting another's first token.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from app.domain.data.dataset import Row, Split
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from app.domain.methods import AnyMethod
from app.domain.runs.job import TrainJob
from app.domain.tasks import generates
from worker.engine.data.batches.batches import IGNORED, Batch, Listener, in_chunks, learnt, padded
from worker.engine.data.batches.packing import packed
from worker.engine.data.batches.padding import needs_padding_mask
from worker.engine.data.lines import LineWriter, report
from worker.engine.data.rows import unusable
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.evaluation.generation import stop_tokens
from worker.engine.models.precision import computing
from worker.engine.tasks.completions import Completions, check_vocabulary, judge, longest_prompt
from worker.engine.tasks.token_loss import logits_at, token_losses

AUTO = AutoModelForCausalLM
ARCHITECTURES = MODEL_FOR_CAUSAL_LM_MAPPING
PEFT_TYPE = "CAUSAL_LM"


def incompatibility(config: PreTrainedConfig) -> Message | None:
    """Rejects encoders, whose attention is bidirectional, and encoder-decoders."""
    if getattr(config, "is_encoder_decoder", False):
        return _("A model of type %(type)r is an encoder-decoder. Choose the task seq2seq-lm.", type=config.model_type)
    one_way = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    return _encoder(config) if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not one_way else None


def _encoder(config: PreTrainedConfig) -> Message:
    return _(
        "A model of type %(type)r is an encoder, which sees the words that a language model should predict. Choose a "
        "decoder such as GPT-2, or another task.",
        type=config.model_type,
    )


def encode(
    rows: Sequence[Row],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    job: TrainJob,
    sink: Listener,
) -> Completions:
    """Tokens of every row, shifted targets, and prompts for generation."""
    training = job.spec.training
    packs = training.packing and split == "train"
    _check_metric(job)
    stops = stop_tokens(model.generation_config, tokenizer)
    writer = LineWriter(tokenizer, stops, training.completion_only_loss)
    complete = [line for chunk in in_chunks(rows, sink.raise_if_stopped) for line in writer.lines(chunk)]
    lines = [line.cut(training.max_length) for line in complete]
    for sentence in report(complete, lines, writer.apart, split, training.max_length):
        sink.log(sentence)
    ids = [np.asarray(line.ids, dtype=np.int32) for line in lines]
    check_vocabulary(rows, ids, model)
    targets = [
        np.where(line.targets[1:], row[1:], IGNORED).astype(np.int64) for line, row in zip(lines, ids, strict=True)
    ]
    for row, target in zip(rows, targets, strict=True):
        if not np.any(target != IGNORED):
            raise unusable(row, _("has no token to predict"), _("Raise max_length, or leave the row out"))
    prompts, cut = [], []
    if any(line.start for line in lines):
        limit = longest_prompt(job, model, tokenizer)
        prompts = [np.asarray(line.tail(limit), dtype=np.int32) for line in complete]
        cut = [len(line.prompt) > limit for line in complete]
    return Completions(
        rows=rows,
        targets=targets,
        lengths=[len(target) for target in targets],
        tokens=[row[:-1] for row in ids],
        tokenizer=tokenizer,
        prompts=prompts,
        references=[line.reference for line in lines],
        cut=cut,
        capacity=training.max_length if packs else 0,
        truncated=[len(line.ids) - 1 for line in complete if len(line.ids) > training.max_length],
        masked=masks_padding(model, job.spec.method),
    )


def masks_padding(model: PreTrainedModel, method: AnyMethod) -> bool:
    """Whether batches carry a mask of their padding: not where a causal model without one computes the same. Virtual
    tokens lie before the row, where PEFT expects a mask."""
    return method.virtual_tokens > 0 or needs_padding_mask(model.config)


def _check_metric(job: TrainJob) -> None:
    metric = job.spec.verdict_metric
    if generates(metric) and job.dataset_format == "text":
        text = _(
            "metric: %(metric)s scores generated text, but rows of plain text have no prompt. Choose token_accuracy, "
            "or a dataset of prompts and completions.",
            metric=metric,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)


def check_direction(model: PreTrainedModel) -> None:
    """Test that the model is causal, which no configuration states reliably: a different last token must not change
    earlier outputs."""
    ids = torch.tensor([[1, 2, 3, 1], [1, 2, 3, 2]], device=model.device)
    model.eval()  # type: ignore[no-untyped-call]
    with torch.inference_mode(), computing(model):
        first, second = model(input_ids=ids, use_cache=False).logits[:, :3].float()
    if not torch.allclose(first, second, rtol=1e-2, atol=1e-2 * float(first.abs().max())):
        raise RunFailed(FailureCode.BAD_CONFIGURATION, _encoder(model.config))


def collate(examples: Completions, indices: Sequence[int], pad_token: int) -> Batch:
    """Rows padded on the right to the longest one, or packed where that is smaller; labels [B, T] are the shifted
    targets."""
    tokens, targets = [examples.tokens[i] for i in indices], [examples.targets[i] for i in indices]
    [most] = examples.longest
    ids, mask = padded(tokens, pad_token, most=most)
    if examples.capacity:
        together = packed(tokens, targets, examples.capacity, pad_token)
        if together.labels.numel() < ids.numel():
            return together
    labels, _mask = padded(targets, IGNORED, most=most)
    inputs = {"input_ids": ids} | ({"attention_mask": mask} if examples.masked else {})
    return Batch(inputs, labels, int(mask.sum()), learnt(labels), None if examples.masked else mask)


def losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    return token_losses(_logits(model, batch), batch.targets)


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return losses(model, batch).sum()


def evaluate(model: nn.Module, examples: Completions, evaluator: Evaluator, *, generate: bool) -> Predictions:
    """Evaluate on the reference completions and, with `generate`, on the text generated after the prompts."""
    return judge(model, examples, evaluator, _logits, generate=generate)


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    assert batch.places is not None  # noqa: S101 collate gives them
    return logits_at(model, batch.inputs, batch.places, batch.labels.shape[1])
