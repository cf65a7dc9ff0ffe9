"""What reporting costs a training: processor time of `VeznaCallback` on the training's thread, and of the thread that
sends, against the processor time of a step.

    python -m benchmarks.tracking [--steps 20] [--batch 16]

The packaged all-MiniLM-L6-v2 is trained on headlines by LoRA, at most 64 tokens, and every step is logged. The server
is another process. Processor time, since a busy machine changes that of the clock. Target: at most 1 % of a step.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

from app.samples import samples as sample
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from tests.support.servers.running_stack import free_port
from vezna import Client, VeznaCallback, track
from vezna.errors import ClientError

STUDY = {
    "name": "cost of reporting",
    "task": "sequence-classification",
    "arms": [{"label": "full", "method": "full"}, {"label": "lora", "method": "lora"}],
    "seeds": [0],
}


class Timed(VeznaCallback):
    """Measures its own events."""

    spent = 0.0

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """As of the callback."""
        self._timed(super().on_log, *args, **kwargs)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """As of the callback."""
        self._timed(super().on_step_end, *args, **kwargs)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the test set is not what is measured."""

    def _timed(self, event: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        began = time.thread_time()
        event(*args, **kwargs)
        self.spent += time.thread_time() - began


class Steps(TrainerCallback):
    """Processor time of each step, of all threads."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = time.process_time()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop it."""
        self.seconds.append(time.process_time() - self._began)


def main() -> None:
    """Print the costs per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # more would spin where others use the processors
    with TemporaryDirectory(prefix="vezna-tracking-") as folder:
        home, port = Path(folder), free_port()
        migrate.upgrade(Database(Settings(home=home).database))
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app", "--port", str(port)]
        server = subprocess.Popen([*command, "--log-level", "error"], env={**os.environ, "VEZNA_HOME": folder})
        try:
            url = f"http://127.0.0.1:{port}"
            study = _declared(url)
            print(f"{psutil.cpu_count()} cores, load average before {psutil.getloadavg()[0]:.1f}")
            _loop(study, url, home)
            _trainer(study, url, home, options.steps, options.batch)
        finally:
            server.terminate()
            server.wait(30)


def _declared(url: str) -> int:
    for _ in range(100):
        try:
            with Client(url) as client:
                return client.declare_study(STUDY).id
        except ClientError:
            time.sleep(0.3)
    raise SystemExit("The server did not start.")


def _loop(study: int, url: str, home: Path, steps: int = 20_000) -> None:
    run = track(study, "full", seed=0, url=url, directory=home / "runs", metric_version="1")
    began = time.thread_time()
    for step in range(1, steps + 1):
        run.log_step(step, loss=0.5, learning_rate=1e-4, epoch=0.1)
    spent = time.thread_time() - began
    print(f"run.log_step: {1e6 * spent / steps:.1f} µs on the training's thread, mean of {steps}")
    run.leave()


def _trainer(study: int, url: str, home: Path, steps: int, batch: int) -> None:
    base = sample.model_directory()
    tokenizer = AutoTokenizer.from_pretrained(base)
    labels, rows = sample.headlines()
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]))
    data = [
        {**tokenizer(row.text, truncation=True, max_length=64), "labels": row.label}
        for row in rows
        if row.split == "train"
    ]
    arguments = TrainingArguments(
        output_dir=str(home / "out"), max_steps=steps, per_device_train_batch_size=batch, logging_steps=1, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    timed, per_step = (
        Timed(trainer, study=study, arm="lora", test=data[:50], url=url, seed=0, directory=home / "t"),
        Steps(),
    )
    trainer.add_callback(timed)
    trainer.add_callback(per_step)
    began = time.perf_counter()
    trainer.train()
    wall = time.perf_counter() - began
    sending = _thread_seconds(timed)
    assert timed.run is not None
    timed.run.leave()
    step = median(per_step.seconds)
    for name, spent in (("callback", timed.spent), ("sending thread", sending)):
        print(f"{name}: {1e6 * spent / steps:.0f} µs of processor time a step, {100 * spent / steps / step:.3f} %")
    print(f"step: {1e3 * step:.0f} ms of processor time, median of {steps}; {wall / steps * 1e3:.0f} ms by the clock")


def _thread_seconds(callback: VeznaCallback) -> float:
    """Processor time of the thread that sends."""
    sender = callback.run._sender if callback.run else None
    thread = sender._thread.native_id if sender else None
    return sum(one.user_time + one.system_time for one in psutil.Process().threads() if one.id == thread)


if __name__ == "__main__":
    main()
