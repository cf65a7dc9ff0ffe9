"""One attempt from beginning to end: load, tokenize, weigh the untouched model, adapt, audit, train, evaluate, save."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from app.domain.datasets import Split
from app.domain.jobs import TrainJob
from app.domain.methods import METHODS as FACTS
from app.domain.metrics import Parameters, RunResult
from app.domain.runs import Phase
from worker.engine import audit
from worker.engine.artifacts import collect, write_predictions
from worker.engine.clocks import Stopwatch
from worker.engine.data import Examples, check_length, read, tokenize
from worker.engine.environment import choose_device, describe, prepare
from worker.engine.evaluate import Evaluator, Predictions
from worker.engine.memory import MemoryMeter
from worker.engine.methods import METHODS, Method
from worker.engine.model import load
from worker.engine.progress import Instruments, ProgressSink
from worker.engine.train import Loop, Trained


class Attempt:
    """Executes a job. Create it when the libraries are imported: clocks and memory count from then."""

    def __init__(self, job: TrainJob, sink: ProgressSink) -> None:
        """Raises `RunFailed(bad_configuration)` if the job's device is absent."""
        prepare(job.threads)
        self.job = job
        self.device = choose_device(job.device)
        self.method = METHODS[job.spec.method.kind]
        self.output = Path(job.output)
        self.instruments = Instruments(sink, Stopwatch(job.claimed_at, self.device), MemoryMeter(self.device))

    def run(self) -> RunResult:
        """The whole attempt. Raises `RunFailed` with a reason, or `Stopped`.

        The test split is read twice: by the untouched model before training and by the adapted one after it.
        """
        job, training, instruments = self.job, self.job.spec.training, self.instruments
        clocks, memory, sink = instruments.clocks, instruments.memory, instruments.sink

        instruments.enter(Phase.LOAD)
        base = load(job.model_location, job.model_revision, job.labels, training.seed)
        if base.missing:
            sink.log(f"The checkpoint lacks {', '.join(base.missing)}: they start from random weights.")
        expected = self.method.expected_trainable(base.model, job.spec.method)
        nn.Module.to(base.model, self.device)

        instruments.enter(Phase.TOKENIZE)
        check_length(training.max_length, base.model, base.tokenizer)
        splits = self._splits(base.tokenizer)
        evaluate = Evaluator(
            self.device,
            training.per_device_eval_batch_size,
            base.tokenizer.pad_token_id,
            training.bf16,
            sink.raise_if_stopped,
        )

        instruments.enter(Phase.BASELINE)
        untouched = self._test(evaluate, base.model, splits["test"], None, 0.0)

        clocks.enter("audit")
        torch.manual_seed(training.seed)  # the method's own weights, such as LoRA's A
        model = self.method.apply(base.model, job.spec.method).to(self.device)
        audit.check_trainable(model, expected)
        before = audit.hashes(model)
        memory.loaded()

        rate = training.learning_rate or FACTS[job.spec.method.kind].learning_rate
        loop = Loop(training, rate, splits["train"], splits["validation"], evaluate, instruments, self.output)
        trained = loop.run(model)
        clocks.enter("audit")
        audited = audit.compare(before, model, self.method.group, trained.without_gradient)

        instruments.enter(Phase.EVALUATE)
        epoch = trained.best_step / loop.steps_per_epoch
        adapted = self._test(evaluate, model, splits["test"], trained, epoch)

        instruments.enter(Phase.SAVE)
        self.method.save(model, base.tokenizer, job.spec, self.output)
        write_predictions(self.output / "predictions.parquet", splits["test"], job.labels, untouched, adapted)
        artifacts = collect(self.output)
        return RunResult(
            steps=trained.steps,
            best_step=trained.best_step,
            tokens=trained.tokens,
            parameters=count(model, self.method),
            audit=audited,
            memory=memory.read(model, trained.optimizer_bytes),
            evaluations=instruments.evaluations,
            environment=describe(self.device, training.bf16, base.model.config._attn_implementation),
            artifacts=artifacts,
            clocks=clocks.read(),
        )

    def _splits(self, tokenizer: PreTrainedTokenizerBase) -> dict[Split, Examples]:
        rows = read(self.job.dataset_file, len(self.job.labels))
        max_length, between = self.job.spec.training.max_length, self.instruments.sink.raise_if_stopped
        return {split: tokenize(rows[split], tokenizer, max_length, between) for split in rows}

    def _test(
        self, evaluate: Evaluator, model: nn.Module, test: Examples, trained: Trained | None, epoch: float
    ) -> Predictions:
        """Evaluate on the test split and report each item's score. `trained`: None for the untouched model."""
        found = evaluate(model, test)
        evaluation = found.evaluation(
            "adapted" if trained else "base", "test", trained.best_step if trained else 0, epoch
        )
        self.instruments.evaluated(evaluation, [row.item for row in test.rows], found.scores.tolist())
        return found


def count(model: nn.Module, method: Method) -> Parameters:
    """Parameters of the model that trains; a tied one counts once."""
    by_group: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = method.group(name)
            by_group[group] = by_group.get(group, 0) + parameter.numel()
    total = sum(p.numel() for p in model.parameters())
    return Parameters(total=total, trainable=sum(by_group.values()), by_module=by_group)
