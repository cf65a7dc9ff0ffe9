"""One attempt from beginning to end: load, tokenize, evaluate the base model, adapt, audit, train, evaluate, save."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from app.domain.data.dataset import Row, Split
from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import QloraSpec
from app.domain.resources.speed import DeviceRates
from app.domain.runs.in_batch import clash_of
from app.domain.runs.job import TrainJob
from app.domain.runs.result import RunResult
from app.domain.runs.status import Phase
from app.domain.tasks import TASKS as FACTS
from worker.engine.data.batches.batches import Examples, check_length, read
from worker.engine.data.batches.packing import check_packing
from worker.engine.data.batches.padding_free import RowsApart, check_padding_free
from worker.engine.data.chats.rendering import end_renderer
from worker.engine.data.describe import describe_data
from worker.engine.device.energy import EnergyMeter
from worker.engine.device.environment import choose_device, computes_in_bf16, describe, prepare
from worker.engine.device.rates import device_rates
from worker.engine.evaluation import audit
from worker.engine.evaluation.base_evaluations import BaseEvaluations
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.evaluation.forgetting import GeneralText
from worker.engine.evaluation.reference import Reference
from worker.engine.evaluation.weight_delta import BaseModelCopy, report_weight_deltas
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.compiled import CompiledBlocks, keep_caches_in, try_compiler
from worker.engine.loop.failures import blamed_on_weights
from worker.engine.loop.prefix.stored_prefix import stored_prefix
from worker.engine.loop.progress import Instruments, ProgressSink
from worker.engine.loop.step import ForwardAndBack, forward_and_back, optimizer_of
from worker.engine.loop.train import Loop
from worker.engine.memory.measured import MemoryMeter, tensor_bytes
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import count
from worker.engine.models.architecture import describe as describe_model
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.models.dropout import disable_dropout
from worker.engine.models.hub.hub import fetch_model
from worker.engine.models.load import Loaded, load, padding_of, recompute, refuse_offload
from worker.engine.models.precision import freeze_in_bf16, kept_in_float32, settle, widen_buffers
from worker.engine.models.quantized.quantization import NF4
from worker.engine.ranks.team import Team
from worker.engine.saving.artifacts import collect, write_predictions
from worker.engine.saving.resume import usable_checkpoint
from worker.engine.tasks import TASKS
from worker.engine.tasks.causal_lm import check_direction


class Attempt:
    """Executes a job. Create it right after the libraries are imported: clocks and memory count from then on."""

    def __init__(self, job: TrainJob, sink: ProgressSink, team: Team | None = None) -> None:
        """`team`: the processes that train together. Raises `RunFailed(bad_configuration)` if the device is absent."""
        prepare(job.threads)
        self.job = job
        self.device = choose_device(job.device)
        self.method = job.spec.method
        self.task = TASKS[job.spec.task]
        self.mechanism = MECHANISMS[self.method.mechanism]
        self.team = team or Team()
        self.output = self.team.folder(Path(job.output))
        bf16, natural = job.spec.training.bf16, computes_in_bf16(self.device) or self.method.computes_in_bf16
        self.bf16 = natural if bf16 is None else bf16
        refuse_offload(self.method, self.device.type)
        self.instruments = Instruments(sink, Stopwatch(job.claimed_at, self.device), MemoryMeter(self.device))
        self.saved_bytes: int | None = None
        """Bytes of the trainable weights, which the attempt writes to its output; None before they are chosen."""
        self.forward_and_back: ForwardAndBack = forward_and_back
        self.caches_prefix = self.team.world == 1  # several ranks would write the same files

    def run(self) -> RunResult:
        """Run the whole attempt. Raises `RunFailed` with a reason, `Stopped`, or `Followed` on another rank than 0.

        The test split is evaluated twice: with the base model before training, and with the adapted model after it. A
        trial skips the test split.
        """
        spec, training, instruments = self.job.spec, self.job.spec.training, self.instruments
        clocks, memory, sink = instruments.clocks, instruments.memory, instruments.sink

        team = self.team
        with team.joining(self.device):
            job = self.job = fetch_model(self.job, instruments)
        instruments.enter(Phase.LOAD)
        rates = self._rates()
        if training.compile_blocks:
            keep_caches_in(Path(job.cache or self.output).with_name("compiled"))
            try_compiler(self.device, clocks)
        memory.begin()
        nf4 = None
        if isinstance(self.method, QloraSpec):
            nf4 = NF4(torch.bfloat16 if self.bf16 else torch.float32, self.device)
        base = self._load(nf4)
        base_copy = BaseModelCopy(job, base.model)
        if base.missing:
            sink.log(f"The checkpoint lacks {', '.join(base.missing)}: they start from random weights.")
        facts = describe_model(base.model, spec.task)
        if incompatibility := self.method.incompatibility(facts) or clash_of(self.method, spec.task, training):
            raise RunFailed(FailureCode.BAD_CONFIGURATION, incompatibility.located)
        expected = self.method.trains(facts)
        if self._reads_all:
            settle(base.model, kept_in_float32(self.method, facts), self.device, bf16=self.bf16)
        elif not self.bf16:
            widen_buffers(base.model)
        if FACTS[spec.task].prefers:  # a reward is relative to a model without dropout (TRL's disable_dropout)
            disable_dropout(base.model)
        if self.device.type == "cpu":
            use_cpu_kernels(base.model)

        instruments.enter(Phase.TOKENIZE)
        if FACTS[spec.task].reads == "texts":
            check_length(training.max_length, self.method.virtual_tokens, base.model, base.processor)
        rows = read(self.job.dataset_file, self.job.dataset_format, train_fraction=training.train_fraction)
        splits = self._splits(rows, base)
        if training.padding_free:
            check_padding_free(base.model, training.max_length)
            splits["train"] = replace(splits["train"], padding_free=True)
        data = describe_data(rows, splits["train"], training.per_device_train_batch_size, training.seed)
        general = GeneralText(job, base.processor, base.model, sink) if job.general_file and team.leads else None
        end_renderer()
        evaluate = Evaluator(
            self.device,
            training.per_device_eval_batch_size,
            padding_of(base.processor),
            self.bf16,
            sink.raise_if_stopped,
            sink.log,
            self.task.collate,
            training.max_new_tokens,
            self.instruments.memory.exact,
        )

        base_evaluations = BaseEvaluations(job, base, evaluate)
        try:
            base_predictions = self._test(
                Phase.BASELINE, splits, lambda test: base_evaluations.evaluate(test, generate=True)
            )
            reference = Reference(base_evaluations, evaluate, instruments, team)
            splits = reference.compared(splits, base.model, base_predictions)
            before_loss = general.before(base_evaluations) if general else 0.0
        except RunFailed as error:
            raise blamed_on_weights(error, base.model) from error

        clocks.enter("audit")
        torch.manual_seed(training.seed)  # the method's own weights, such as LoRA's A
        model = self.mechanism.apply(base.model, self.method, facts)
        if self._reads_all:
            model.to(self.device)
        if training.gradient_checkpointing:
            recompute(base.model, self.method)
        frozen_dtype = freeze_in_bf16(model) if self.bf16 else "float32"
        audit.check_trainable(model, expected)
        self.saved_bytes = tensor_bytes(p for p in model.parameters() if p.requires_grad)
        before = audit.hashes(model) if team.leads else {}
        memory.loaded()
        cached = job if self.caches_prefix else job.model_copy(update={"cache": None})
        prefix = stored_prefix(model, before, cached, splits["train"], evaluate, instruments)
        resume = usable_checkpoint(job.resume, data.order, sink.log)

        loop = Loop(
            task=spec.task,
            metric=spec.verdict_metric,
            arguments=training,
            bf16=self.bf16,
            learning_rate=spec.learning_rate,
            optimizer=partial(optimizer_of, self.method),
            train=splits["train"],
            validation=splits["validation"],
            evaluate=replace(evaluate, between=team.stopping(sink.raise_if_stopped)),
            companion=lambda model, steps: self.mechanism.companion(model, self.method, steps),
            prefix=prefix,
            apart=RowsApart(base.model),
            compiled=CompiledBlocks(base.model, instruments) if training.compile_blocks else None,
            instruments=instruments,
            forward_and_back=self.forward_and_back,
            output=self.output,
            checkpoints=Path(job.output),
            checkpoint_seconds=job.checkpoint_seconds,
            stop_seconds=job.stop_seconds,
            order_hash=data.order,
            resume=resume,
            team=team,
            blocks=facts.blocks,
        )
        meter = EnergyMeter(self.device)
        trained = loop.run(model)
        # the earlier attempt's energy is unknown
        energy_joules = team.total(meter.joules() if resume is None else None)
        team.leave()
        clocks.enter("audit")
        groups = {tensor.name: tensor.group for tensor in expected}
        may_return = [tensor.name for tensor in expected if tensor.may_return]
        audited = audit.compare(before, model, groups, trained.without_gradient, may_return, trained.below_rounding)

        adapted = self._test(
            Phase.EVALUATE,
            splits,
            lambda test: reference.measured(model, self.task.evaluate(model, test, evaluate, generate=True)),
            trained.best_step,
            trained.best_step / loop.steps_per_epoch,
        )
        forgetting = general.forgetting(before_loss, general.loss(model, evaluate)) if general else None

        instruments.enter(Phase.SAVE)
        if base_predictions and adapted:
            self.mechanism.save(model, base.processor, spec, self.output)
            write_predictions(
                self.output / "predictions.parquet", splits["test"], job.labels, base_predictions, adapted
            )
        artifacts = collect(self.output)
        measured = memory.read(model, trained.optimizer_bytes, instruments.ledgers.taken)
        clocks.enter("weight_delta")
        report_weight_deltas(job, model, facts, base_copy, measured, self.device, instruments)
        return RunResult(
            steps=trained.steps,
            best_step=trained.best_step,
            tokens=trained.tokens,
            parameters=count(model, groups),
            audit=audited,
            memory=measured,
            evaluations=instruments.evaluations,
            confusion=adapted.confusion if adapted else None,
            forgetting=forgetting,
            energy_joules=energy_joules,
            data=data,
            resumed_from=resume.state.step if resume else None,
            trained_together=instruments.trained_together,
            environment=describe(
                self.device,
                self.bf16,
                "nf4" if nf4 else frozen_dtype,
                base.model.config._attn_implementation,
                rates,
                splits["train"].masked,
                team.world,
            ),
            artifacts=artifacts,
            clocks=clocks.read(trained.steady_tokens / trained.tokens),
        )

    def _load(self, nf4: NF4 | None) -> Loaded:
        job = self.job
        return load(job.model_location, job.model_revision, job.spec.task, job.labels, job.spec.training.seed, nf4)

    def _rates(self) -> DeviceRates:
        return device_rates(self.device, self.bf16)

    def _splits(self, rows: Mapping[Split, Sequence[Row]], base: Loaded) -> dict[Split, Examples]:
        sink, training = self.instruments.sink, self.job.spec.training
        if self.team.leads and FACTS[self.job.spec.task].decoder:  # a refusal ends the other ranks
            check_direction(base.model)
            if training.packing:
                check_packing(base.model, training.max_length)
        return {
            split: self.task.encode(rows[split], split, base.processor, base.model, self.job, sink)
            for split in rows
            if split != "test" or self._tests
        }

    @property
    def _reads_all(self) -> bool:
        """Whether this rank reads the whole model. Where each is to hold a part of it, only rank 0 executes it before,
        and every rank for the reference of DPO, of which each computes its share."""
        refers = FACTS[self.job.spec.task].prefers and self.job.spec.training.preference_loss == "dpo"
        return self.team.leads or self.method.freezes_base or refers

    @property
    def _tests(self) -> bool:
        """Whether this process evaluates the test split: trials never do, and of several ranks only one does."""
        return self.team.leads and not self.job.trial

    def _test(
        self,
        phase: Phase,
        splits: Mapping[Split, Examples],
        evaluate: Callable[[Examples], Predictions],
        step: int = 0,
        epoch: float = 0.0,
    ) -> Predictions | None:
        """Evaluate on the test split and report each item's score. Returns None for a trial,
        which skips the split."""
        if not self._tests:
            return None
        self.instruments.enter(phase)
        test = splits["test"]
        metric = self.job.spec.verdict_metric
        predictions = evaluate(test)
        subject: Literal["base", "adapted"] = "base" if phase is Phase.BASELINE else "adapted"
        evaluation = predictions.evaluation(subject, "test", metric, step, epoch)
        scores = predictions.per_item[metric].tolist()
        self.instruments.evaluated(evaluation, [row.item for row in test.items], scores)
        return predictions
