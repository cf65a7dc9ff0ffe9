"""The size of the saved file, estimated and on disk: every method on a base in bfloat16. `test_estimate.py` compares it
with complete runs, in float32. No step is computed here: what is saved does not depend on one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from app.domain.methods import AdaLoraSpec, LoraSpec, MethodSpec
from app.domain.runs.job import TrainJob
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine import adapted as tried
from tests.unit.worker.engine.estimation.test_estimate import TRIES, job, request_of
from worker.engine.estimation.estimate import fake_steps
from worker.engine.estimation.unloaded import unloaded
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.precision import freeze_in_bf16, settle
from worker.engine.saving.artifacts import file_bytes

MORE: list[tuple[MethodSpec, str]] = [
    (LoraSpec(r=4, init_lora_weights="pissa"), "llama"),
    (LoraSpec(r=4, init_lora_weights="olora", use_rslora=True), "bert"),
    (LoraSpec(r=4, use_dora=True, bias="all"), "t5"),
]
ONCE = list({spec.kind: (spec, name) for spec, name in TRIES}.values())
"""Every method, on one model."""
CASES = [*((*case, False) for case in MORE), *((*case, True) for case in [*ONCE, *MORE])]
every_case = pytest.mark.parametrize(
    ("spec", "name", "bf16"),
    CASES,
    ids=[f"{spec.kind}-{name}-{'bf16' if bf16 else 'fp32'}" for spec, name, bf16 in CASES],
)


def on_disk(spec: MethodSpec, name: str, folder: Path, *, bf16: bool) -> int:
    """Bytes of the weights' file; of AdaLoRA when each layer has dropped as many directions as it is to drop on
    average."""
    model, task = tried.model(name), tried.MODELS[name]
    facts, mechanism = describe(model, task), MECHANISMS[spec.mechanism]
    if bf16:
        settle(
            model,
            {t.name for t in spec.trains(facts)} | {p.name for p in facts.head_parameters},
            next(model.parameters()).device,
            bf16=True,
        )
    adapted = mechanism.apply(model, spec, facts)
    if bf16:
        freeze_in_bf16(adapted)
    if isinstance(spec, AdaLoraSpec):
        for parameter_name, parameter in adapted.named_parameters():
            if ".lora_E." in parameter_name:
                parameter.data[: spec.target_r] = 1.0
    run = SimpleNamespace(base_model="tiny", task=task, method=spec)
    [file] = mechanism.save(adapted, tiny.tokenizer(), run, folder).glob("*.safetensors")  # type: ignore[arg-type]
    return file.stat().st_size


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TrainJob]:
    """A run on each tiny model."""
    return cache(lambda name: job(tmp_path_factory.mktemp(name), name, LoraSpec(r=4)))


@pytest.mark.by_day
@every_case
def test_it_is_estimated_to_the_byte(
    spec: MethodSpec, name: str, bf16: bool, jobs: Callable[[str], TrainJob], tmp_path: Path
) -> None:
    request = request_of(jobs(name), method=spec, bf16=bf16)
    estimated = fake_steps(unloaded(request), request).saved_bytes()
    assert estimated == on_disk(spec, name, tmp_path, bf16=bf16)


def test_what_trains_is_kept_in_float32_whatever_the_base_is_held_in(tmp_path: Path) -> None:
    sizes = {}
    for bf16 in (False, True):
        (tmp_path / str(bf16)).mkdir()
        sizes[bf16] = on_disk(LoraSpec(r=4), "llama", tmp_path / str(bf16), bf16=bf16)
    assert sizes[False] == sizes[True]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.bool]
)
def test_a_header_is_as_long_as_safetensors_writes_it(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {f"wörter.{n}.weight": torch.zeros(n + 1, 3).to(dtype) for n in range(12)} | {"b": torch.zeros(5)}
    for count in range(len(tensors)):
        some = dict(list(tensors.items())[count:])
        save_file(some, tmp_path / "file", metadata={"format": "pt"})
        assert file_bytes(some) == (tmp_path / "file").stat().st_size
