"""The parts of a session. Each adds rows to its table, and may be ended by the deadline at any time."""

import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from app.domain.methods import FullSpec, LeanFullSpec, MethodSpec, QloraSpec
from app.settings import ROOT
from benchmarks.gpu.adapters import measure
from benchmarks.gpu.models import EIGHT, MIDDLE, ONE, SMALL, TINY, Size, texts
from benchmarks.gpu.peer import tokens_per_second
from benchmarks.gpu.resumed import resume
from benchmarks.gpu.runs import LORA, Run, peaks, prepare, steps
from benchmarks.gpu.session import DeadlineReached, NotMeasured, Part, Session, Value
from benchmarks.speed.tables import spread
from worker.engine.device.energy import EnergyMeter
from worker.engine.device.environment import choose_device

CHECKPOINTING = {"gradient_checkpointing": True}
CONFIGURATIONS: list[tuple[Size, MethodSpec, int, int, dict[str, object]]] = [
    (SMALL, FullSpec(), 8, 512, {"bf16": False}),
    (SMALL, FullSpec(), 8, 512, {}),
    (SMALL, LORA, 16, 512, {}),
    (SMALL, LeanFullSpec(optim="adafactor"), 8, 1024, {}),
    (ONE, LORA, 4, 1024, {}),
    (ONE, LORA, 8, 512, {"packing": True}),
    (ONE, LORA, 8, 1024, {"padding_free": True}),
    (ONE, LORA, 8, 1024, CHECKPOINTING),
    (ONE, LORA.model_copy(update={"use_dora": True}), 4, 512, {}),
    (ONE, QloraSpec(r=16), 4, 1024, {}),
    (ONE, FullSpec(), 4, 512, {}),
    (ONE, LeanFullSpec(), 4, 1024, {}),
    (ONE, FullSpec(), 4, 1024, CHECKPOINTING | {"gradient_accumulation_steps": 2}),
]
"""Model, method, batch size, max_length and other training arguments; none was used to set the constant."""
OPTIONS: dict[str, dict[str, object]] = {
    "as it is": {},
    "packing": {"packing": True},
    "padding-free batches": {"padding_free": True},
    "gradient checkpointing": CHECKPOINTING,
    "compiled blocks": {"compile_blocks": True},
}
"""Training arguments whose speed is compared."""
RECIPES: list[MethodSpec] = [
    LeanFullSpec(),
    LeanFullSpec(offload_activations=True),
    LeanFullSpec(optim="adafactor"),
    LeanFullSpec(weight_storage="bf16-kahan"),
    LeanFullSpec(optim="adamw_torch"),
    LeanFullSpec(step_in_backward=True),
    FullSpec(),
]
"""Ways to train every weight, the leanest first, so that a deadline takes the others."""

ENGINE_TESTS = "tests/unit/worker/engine"
PYTEST = ["-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", f"--confcutdir={ENGINE_TESTS}"]
"""Without this repository's options and services for tests, whose packages the machine may lack."""


def tests(session: Session, part: Part) -> None:
    """The tests that need a CUDA device, with bitsandbytes, if it is installed, and without."""
    sides = {"without bitsandbytes": "import sys; sys.modules['bitsandbytes'] = None; "}
    if find_spec("bitsandbytes"):
        sides = {"with bitsandbytes": ""} | sides
    else:
        part.notes.append("bitsandbytes is not installed.")
    for installed, prelude in sides.items():
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "tests.xml"
            options = [*PYTEST, f"{ENGINE_TESTS}/test_cuda.py", f"--junitxml={report}"]
            code = f"{prelude}import pytest, sys; sys.exit(pytest.main({options!r}))"
            command = [sys.executable, "-c", code]
            try:
                ended = subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, timeout=max(1, session.left), check=False
                )
            except subprocess.TimeoutExpired:
                raise DeadlineReached("The deadline was reached during the tests.") from None
            if not report.exists():
                raise NotMeasured(
                    f"pytest ended with status {ended.returncode}: {(ended.stdout + ended.stderr)[-500:]}"
                )
            suite = ElementTree.parse(report).getroot().find("testsuite")
        assert suite is not None
        numbers: dict[str, Value] = {
            name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        }
        part.rows.append({"": installed, **numbers, "seconds": float(suite.get("time", 0))})
        for case in suite.iter("testcase"):
            for trouble in [*case.iter("failure"), *case.iter("error")]:
                part.notes.append(f"{installed}, {case.get('name')}: {trouble.get('message', '')[:300]}")
        session.write()


def memory(session: Session, part: Part) -> None:
    """Estimated and measured peak of training, for configurations that nothing was fitted to."""
    errors = []
    for size, method, batch, length, more in CONFIGURATIONS:
        if session.rehearsal:
            size, batch, length = TINY, 2, 32
        run = Run(size, method, texts(4 * batch, length), steps(3, batch, length, **more))
        label: dict[str, Value] = {
            "model": size.name,
            "method": method.label,
            "batch": f"{batch} × {length}",
            "arguments": ", ".join(f"{name}: {value}" for name, value in more.items()),
        }
        prepare(session, size)
        if session.measure(part, label, partial(peaks, session, run)):
            errors.append(abs(float(part.rows[-1]["error (%)"] or 0)))
    if errors:
        part.notes.append(
            f"mean error {sum(errors) / len(errors):.2f} %, worst {max(errors):.2f} %; goal: at most 3.5 %"
        )


def speed(session: Session, part: Part) -> None:
    """LoRA on mixed lengths: each option in turns with the padded Trainer."""
    plans = [(TINY, 2, 32, 1)] if session.rehearsal else [(ONE, 8, 1024, 3), (EIGHT, 4, 1024, 1)]
    for size, batch, length, rounds in plans:
        rows = texts(batch * (6 if session.rehearsal else 12), length)
        prepare(session, size)
        sides: dict[str, Callable[[], float]] = {}
        for name, more in OPTIONS.items():
            if session.rehearsal and "compile_blocks" in more:
                part.notes.append("compiled blocks: a rehearsal compiles nothing, which would take a minute.")
                continue
            run = Run(size, LORA, rows, steps((len(rows) - 1) // batch, batch, length, bf16=True, **more))
            sides.setdefault("padded Trainer", partial(tokens_per_second, session, run))
            sides[f"Vezna, {name}"] = partial(_steady, session, run)
        rates: dict[str, list[float]] = {name: [] for name in sides}
        missing: dict[str, str] = {}
        for turn in range(rounds):
            for name in sides if turn % 2 == 0 else reversed(sides):
                try:
                    rates[name].append(session.apart(sides[name]))
                except NotMeasured as why:
                    missing[name] = str(why)
        peak = session.apart(partial(_matmul_peak, session))
        lengths = [len((row.text or "").split()) for row in rows if row.split == "train"]
        per_token = size.flops(lengths, LORA.r) / sum(lengths)
        for name, measured in rates.items():
            row: dict[str, Value] = {"model": size.name, "side": name}
            if measured:
                middle = sorted(measured)[len(measured) // 2]
                row |= {
                    "tokens/s": spread(measured, ",.4g"),
                    "share of the matmul peak (%)": 100 * middle * per_token / peak,
                }
                if rates["padded Trainer"]:
                    pairs = zip(measured, rates["padded Trainer"], strict=False)
                    row["times the Trainer"] = spread([ours / theirs for ours, theirs in pairs], ",.4g")
            if name in missing:
                row["not measured"] = missing[name]
            part.rows.append(row)
        session.write()


def _steady(session: Session, run: Run) -> float:
    result, _recorder = run.trained(session)
    return result.tokens / result.clocks.train


def _matmul_peak(session: Session) -> float:
    n = 256 if session.rehearsal else 8192
    device = choose_device(session.device)
    a, b = torch.randn(2, n, n, device=device).to(torch.bfloat16)
    best = float("inf")
    for _repetition in range(6):
        began = time.perf_counter()
        c = a @ b
        float(c[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def full(session: Session, part: Part) -> None:
    """Every weight of a 2.7B model trains, by each lean recipe and in float32; LoRA and QLoRA beside them."""
    size, batch, length = (TINY, 2, 32) if session.rehearsal else (MIDDLE, 4, 512)
    prepare(session, size)
    for method in [*RECIPES, LORA, QloraSpec(r=16)]:
        in_backward = isinstance(method, LeanFullSpec) and method.step_in_backward
        offloads = isinstance(method, LeanFullSpec) and method.offload_activations
        if session.rehearsal and offloads:
            part.notes.append("offloaded activations: a CPU, on which a rehearsal runs, has nowhere to move them.")
            continue
        arguments = steps(5, batch, length, max_grad_norm=0 if in_backward else 1, gradient_checkpointing=offloads)
        run = Run(size, method, texts(5 * batch, length), arguments)
        session.measure(part, {"model": size.name, "method": method.label}, partial(peaks, session, run))


def adapters(session: Session, part: Part) -> None:
    """Several LoRA adapters on one base model, with a small batch, which leaves a card idle."""
    size, length, count = (TINY, 32, 5) if session.rehearsal else (ONE, 512, 20)
    prepare(session, size)
    measure(session, part, Run(size, LORA, texts(2 * count, length), steps(count, 2, length)))


def energy(session: Session, part: Part) -> None:
    """The card's energy counter, compared with its power, sampled and summed over time, while it trains."""
    size, batch, length, count = (TINY, 2, 32, 5) if session.rehearsal else (ONE, 8, 1024, 40)
    prepare(session, size)
    run = Run(size, LORA, texts(batch * count, length), steps(count, batch, length))
    for _repetition in range(1 if session.rehearsal else 3):
        session.measure(part, {"model": size.name, "steps": count}, partial(_energy, session, run))


def _energy(session: Session, run: Run) -> dict[str, Value]:
    device = choose_device(session.device)
    meter = EnergyMeter(device)
    if meter.joules() is None:
        run.trained(session)
        raise NotMeasured(f"{device} has no energy counter (or nvidia-ml-py is not installed).")
    samples: list[tuple[float, float]] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.02):
            samples.append((time.perf_counter(), torch.cuda.power_draw(device) / 1000))

    watching = threading.Thread(target=sample)
    watching.start()
    meter, began = EnergyMeter(device), time.perf_counter()
    result, _recorder = run.trained(session)
    counted, seconds = meter.joules(), time.perf_counter() - began
    over.set()
    watching.join()
    during = [watts for at, watts in samples if began <= at <= began + seconds]
    if counted is None or not during:
        raise NotMeasured("The counter or the power could not be read during the training.")
    summed = seconds * sum(during) / len(during)
    return {
        "seconds": seconds,
        "counter (J)": counted,
        "mean power × time (J)": summed,
        "difference (%)": 100 * (counted - summed) / summed,
        "of training and validation alone (J)": result.energy_joules,
    }


PARTS: dict[str, tuple[str, Callable[[Session, Part], None]]] = {
    "tests": ("Tests on CUDA", tests),
    "memory": ("Estimated and measured memory", memory),
    "speed": ("LoRA on mixed lengths, in turns with the padded Trainer", speed),
    "full": ("Training every weight of a 2.7B model", full),
    "adapters": ("Several adapters on one base model", adapters),
    "energy": ("Energy counter and power × time", energy),
    "resume": ("Resumed runs", resume),
}
