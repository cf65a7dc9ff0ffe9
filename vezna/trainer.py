"""`VeznaCallback`: report a training of transformers' Trainer, or of a trainer that is made of it (TRL,
sentence-transformers), to a study that was declared before (docs/elsewhere.md).

    from vezna import VeznaCallback
    trainer.add_callback(VeznaCallback(trainer, study="MiniLM elsewhere", arm="LoRA r=8", test=test_set))

After the training, with the best model if the trainer loads it, the test set is predicted. A score belongs to a test
item because the trainer reads the set in its order: the callback checks its sampler, the number of predictions, and
that the labels it returns are those of the rows.
"""

import atexit
import logging
import math
import sys
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from vezna.run import Run
from vezna.scores.default import default_of
from vezna.scores.metric_version import version_of
from vezna.scores.scoring import DefaultScore, NoScores, or_no_scores
from vezna.tracking import DIRECTORY, track

ALWAYS = (
    "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps",
    "lr_scheduler_type", "weight_decay", "warmup_steps", "max_grad_norm", "optim", "seed",
)  # fmt: skip
"""Training arguments that are stated even at their defaults."""
NOT_SETTINGS = (
    "output", "log", "save", "eval", "push", "hub", "report", "run_name", "project", "trackio", "disable_tqdm",
    "resume", "do_", "local", "ddp", "debug", "use_cpu", "remove_unused", "label_names", "include", "skip_memory",
    "dataloader_num_workers", "dataloader_pin", "dataloader_persistent", "dataloader_prefetch", "ignore_data_skip",
    "restore", "batch_eval", "past_index", "length_column", "overwrite", "per_device_eval", "prediction", "load_best",
)  # fmt: skip
"""Beginnings of the names of training arguments that say nothing of how a model is trained."""


def training_settings(args: Any) -> dict[str, Any]:
    """The training arguments that say how a model is trained: the usual ones, and those that are not at their
    defaults."""
    stated = {}
    for field in fields(args):
        value = getattr(args, field.name, None)
        kept = all(isinstance(one, bool | int | float | str) for one in (value if isinstance(value, list) else [value]))
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name in ALWAYS or not (field.name.startswith(NOT_SETTINGS) or not kept or value == usual):
            stated[field.name] = value
    return stated


log = logging.getLogger("vezna")
Scores = Mapping[str, float] | Sequence[float]


def _safely(event: Callable[..., None]) -> Callable[..., None]:
    """Log what goes wrong in an event, and let the training go on."""

    @wraps(event)
    def guarded(self: "VeznaCallback", *args: Any, **kwargs: Any) -> None:
        try:
            event(self, *args, **kwargs)
        except Exception as error:  # the training goes on whatever fails here
            log.error("Vezna: %s failed (%s: %s). The training continues.", event.__name__, type(error).__name__, error)

    return guarded


class VeznaCallback(TrainerCallback):
    """Reports the training of one trainer as the run of an arm and a seed."""

    def __init__(
        self,
        trainer: Any,
        *,
        study: int | str,
        arm: str,
        test: Any,
        score: Callable[[Any], Scores] | None = None,
        item_scores: Callable[[Any], Scores] | None = None,
        metric: str | None = None,
        metric_version: str = "",
        seed: int | None = None,
        train: Any = None,
        columns: Sequence[str] | None = None,
        group: str | Sequence[Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        key: str | None = None,
        url: str | None = None,
        token: str | None = None,
        directory: Path | str = DIRECTORY,
    ) -> None:
        """`test`: the declared test set. An item's score is whether the argmax of its prediction equals its label, for
        trainers of TRL and sentence-transformers as in `vezna.scores.default`, or what `score` makes of
        `trainer.predict(test)`, or what `item_scores` makes of the trainer, without a prediction here: one score from 0
        to 1 for each item, in the order of the set. `metric`: which `eval_…` is reported for validation. `train`: the
        training rows, if not those of the trainer. `seed`: by default the trainer's. The others are as of
        `vezna.track`."""
        self.trainer = trainer
        self.run: Run | None = None
        self._rows, self._test, self._train = test, test, train
        self._score, self._item_scores = score, item_scores
        self._default: DefaultScore | None = None
        self._refusal, default_version = "", ""
        if not (score or item_scores):
            try:
                self._default, default_version = _default_score(trainer)
            except NoScores as reason:
                log.error("Vezna: %s. Without scores there is no verdict.", reason)
                self._refusal = str(reason)
        self._metric = metric or (self._default.metric if self._default else "accuracy")
        self._metric_version = metric_version or default_version or version_of(item_scores or score)
        self._settings = dict(settings or {})
        self._seed, self._tokens = seed, 0
        self._where: dict[str, Any] = {"study": study, "arm": arm, "columns": columns, "group": group, "key": key}
        self._where |= {"url": url, "token": token, "directory": directory}

    @_safely
    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Open the run."""
        trainer = self.trainer
        self._test = self._items()
        if self._train is None and getattr(args, "packing", False):
            log.warning(
                "Vezna: the trainer's rows are packed, so their hash depends on the seed and on max_length. Give the "
                "rows before packing as train=…, in every run of the study, or they count as trained on other data."
            )
        precision = {"precision": "bf16"} if args.bf16 else {"precision": "fp16"} if args.fp16 else {}
        if self.run is not None:
            self.run.leave()
        self.run = track(
            seed=args.seed if self._seed is None else self._seed,
            model=model,
            train=trainer.train_dataset if self._train is None else self._train,
            validation=trainer.eval_dataset if hasattr(trainer.eval_dataset, "column_names") else None,
            test=self._test,
            metric_version=self._metric_version,
            settings=training_settings(args) | self._settings,
            total_steps=state.max_steps,
            stated={"learning_rate": args.learning_rate, **precision},
            **self._where,
        )
        atexit.register(_fail_with_script, weakref.ref(self))  # called before the run's own, which leaves it open
        if state.global_step:
            self.run.continue_from(state.global_step)

    @_safely
    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Report the step that the trainer logs: the loss since the last one (`logging_steps`)."""
        self._tokens = int(state.num_input_tokens_seen or (logs or {}).get("num_tokens") or self._tokens)
        if self.run is not None and logs and "loss" in logs:
            self.run.log_step(
                state.global_step,
                loss=logs["loss"],
                epoch=logs.get("epoch", 0.0),
                learning_rate=logs.get("learning_rate", 0.0),
                grad_norm=logs.get("grad_norm"),
                tokens=self._tokens,
            )

    @_safely
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop if a person asks for it; processes that train together would wait for each other then."""
        if self.run is not None and self.run.cancel_requested and args.world_size == 1:
            control.should_training_stop = True

    @_safely
    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Report the metric on the validation split, if it is a fraction."""
        if self.run is None or not metrics:
            return
        self.run.add_seconds("evaluate", float(metrics.get("eval_runtime", 0.0)))
        score = metrics.get(f"eval_{self._metric}")
        rows = self.trainer.eval_dataset
        if evaluator := getattr(self.trainer, "evaluator", None):  # of sentence-transformers, perhaps with a name
            named = [value for name, value in metrics.items() if name.endswith(f"_{self._metric}")]
            score, rows = named[0] if len(named) == 1 else score, getattr(evaluator, "queries", rows)
        if isinstance(score, int | float) and 0 <= score <= 1 and hasattr(rows, "__len__"):
            self.run.log_evaluation(
                state.global_step, score=score, items=max(len(rows), 1), loss=metrics.get("eval_loss")
            )

    @_safely
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the test items and end the run."""
        run = self.run
        if run is None:
            return
        run.end_training()
        if run.cancel_requested and args.world_size == 1:
            run.cancel()
            return
        run.log_facts(steps=state.global_step)
        if self._tokens:
            run.log_facts(tokens=self._tokens)
        with run.clock("evaluate"):
            try:
                scores = self._scored()
            except NoScores as reason:
                log.error("Vezna: %s.", reason)
                scores = None
        if scores is not None:
            run.log_item_scores(scores)
        run.finish()

    def _items(self) -> Any:
        """The items of the test set; its rows, with a line in the log, where no kind of item is known."""
        try:
            with or_no_scores():
                return self._default.items(self._rows, self._where["columns"]) if self._default else self._rows
        except NoScores as reason:
            log.error("Vezna: %s. Without scores there is no verdict.", reason)
            return self._rows

    def _scored(self) -> Scores | None:
        """The score of each test item; None, with a line in the log, where nothing proves which item a score is of.
        Raises NoScores."""
        if self._refusal:
            raise NoScores(self._refusal)
        if self._default is not None:
            with or_no_scores():
                return self._default.scores(self.trainer, self._default.items(self._rows, self._where["columns"]))
        if self._item_scores is not None:
            return self._item_scores(self.trainer)
        if not _reads_in_order(self.trainer.get_test_dataloader(self._test)):
            log.error(
                "Vezna: the trainer reads the test set in an order of its own (group_by_length?), so no score is known "
                "to be of an item. Give item_scores=…, a function of the trainer that scores each item."
            )
            return None
        try:
            output = self.trainer.predict(self._test)
        except Exception as error:
            raise NoScores(
                f"{type(self.trainer).__name__}.predict(test) failed ({type(error).__name__}: {error}), so no item has "
                "a score. Give item_scores=…, a function of the trainer that scores each item"
            ) from error
        predictions = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
        labels, stated = output.label_ids, _labels(self._test)
        labels_each = labels is not None and getattr(labels, "ndim", 0) == 1
        if self._score is None and not (labels_each and getattr(predictions, "ndim", 0) == 2):
            log.error(
                "Vezna: the predictions are not those of a classifier with one label per item. Give score=…, a "
                "function of trainer.predict(test) that returns a score from 0 to 1 for each item."
            )
            return None
        if stated is None or not labels_each:
            log.warning(
                "Vezna: the test set has no labels to compare with those that trainer.predict returned, so only the "
                "trainer's sampler says which item a score is of. Check that the data collator keeps the order of rows."
            )
        elif not _equal(stated, labels.tolist()):
            log.error(
                "Vezna: the labels that trainer.predict returned are not those of the test set in its order. Give "
                "item_scores=…, a function of the trainer that scores each item."
            )
            return None
        if self._score is not None:
            return self._score(output)
        return [float(right) for right in (predictions.argmax(axis=-1) == labels).tolist()]


def _fail_with_script(callback: "weakref.ref[VeznaCallback]") -> None:
    """At the end of a script: if an exception out of the training ended it, the run has failed. The interpreter keeps
    the exception that nothing caught."""
    try:
        ended, error = callback(), getattr(sys, "last_value", None)
        if ended is not None and ended.run is not None and isinstance(error, Exception) and _left(ended.trainer, error):
            ended.run.fail(f"{type(error).__name__}: {error}")
    except Exception as failed:  # the script ends as it would have ended
        log.error("Vezna: the failure is not reported (%s: %s).", type(failed).__name__, failed)


def _left(trainer: Any, error: BaseException | None) -> bool:
    """Whether an exception, or one that led to it, left a method of a trainer."""
    while error is not None:
        frames = (frame for frame, _line in traceback.walk_tb(error.__traceback__))
        if any(frame.f_locals.get("self") is trainer for frame in frames):
            return True
        error = error.__cause__ or error.__context__
    return False


def _default_score(trainer: Any) -> tuple[DefaultScore | None, str]:
    """The default score of a trainer, with its version; none where its `predict` decides. Raises NoScores."""
    with or_no_scores():
        default = default_of(trainer)
        return default, default.version(trainer) if default else ""


def _reads_in_order(loader: Any) -> bool:
    """Whether a data loader reads its dataset from the first row to the last."""
    sampler = getattr(loader, "batch_sampler", None) or getattr(loader, "sampler", None)
    while sampler is not None:
        if type(sampler).__name__ == "SequentialSampler":
            return True
        sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)
    return False


def _labels(rows: Any) -> list[float] | None:
    """The labels of a dataset with such a column of numbers, in its order."""
    names = getattr(rows, "column_names", None) or ()
    column = next((name for name in ("label", "labels", "label_ids") if name in names), None)
    if column is None:
        return None
    column_values = rows.with_format(None)[column] if hasattr(rows, "with_format") else rows[column]
    values = [value.item() if hasattr(value, "item") else value for value in column_values]
    return values if all(isinstance(value, int | float) for value in values) else None


def _equal(stated: Sequence[float], returned: Sequence[float]) -> bool:
    """Whether labels are equal, in the precision of 32 bits."""
    return len(stated) == len(returned) and all(
        math.isclose(one, other, rel_tol=1e-6) for one, other in zip(stated, returned, strict=True)
    )
