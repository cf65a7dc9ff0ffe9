"""Result files of PEFT's method comparison (`method_comparison/MetaMathQA/results` in huggingface/peft), one run each.

A file has `run_info` (the configuration), `train_info` (the results) and `meta_info` (versions, device). It does not
state the number of test items: the suite tests on GSM8K's test split, so a score that is a whole number of correct
answers out of 1,319 has 1,319 items, and for any other score the number is unknown. There are no per-item scores.
"""

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from app.domain.errors import FieldError
from app.domain.messages import Message, _
from app.domain.methods import Family

SOURCE = "PEFT method_comparison, MetaMathQA: {experiment}, {created}"
GSM8K_TEST_ITEMS = 1319
NAMES: dict[str, tuple[str, Family, str]] = {
    "ADALORA": ("AdaLoRA", "low-rank", "adalora"),
    "ADAMSS": ("AdaMSS", "low-rank", "adamss"),
    "ADAPTION_PROMPT": ("LLaMA-Adapter", "prompt", "adaption-prompt"),
    "BEFT": ("BEFT", "partial", "beft"),
    "BOFT": ("BOFT", "scaling", "boft"),
    "C3A": ("C³A", "low-rank", "c3a"),
    "DEFT": ("DEFT", "low-rank", "deft"),
    "DELORA": ("DeLoRA", "lora", "delora"),
    "FOURIERFT": ("FourierFT", "low-rank", "fourierft"),
    "FROD": ("FRoD", "low-rank", "frod"),
    "GLORA": ("GLoRA", "lora", "glora"),
    "GRALORA": ("GraLoRA", "lora", "gralora"),
    "HIRA": ("HiRA", "lora", "hira"),
    "IA3": ("(IA)³", "scaling", "ia3"),
    "LILY": ("Lily", "lora", "lily"),
    "LN_TUNING": ("LN tuning", "partial", "ln-tuning"),
    "LOHA": ("LoHa", "low-rank", "loha"),
    "LOKR": ("LoKr", "low-rank", "lokr"),
    "LORA": ("LoRA", "lora", "lora"),
    "MISS": ("MiSS", "low-rank", "miss"),
    "OFT": ("OFT", "scaling", "oft"),
    "OSF": ("OSF", "partial", "osf"),
    "P_TUNING": ("P-tuning", "prompt", "p-tuning"),
    "PEANUT": ("PEANuT", "adapter", "peanut"),
    "PREFIX_TUNING": ("prefix", "prompt", "prefix"),
    "PROMPT_TUNING": ("prompt", "prompt", "prompt"),
    "PSOFT": ("PSOFT", "scaling", "psoft"),
    "PVERA": ("PVeRA", "low-rank", "pvera"),
    "RANDLORA": ("RandLoRA", "low-rank", "randlora"),
    "ROAD": ("RoAd", "scaling", "road"),
    "SHIRA": ("SHiRA", "partial", "shira"),
    "TINYLORA": ("TinyLoRA", "low-rank", "tinylora"),
    "TRAINABLE_TOKENS": ("trainable tokens", "partial", "trainable-tokens"),
    "UNILORA": ("Uni-LoRA", "low-rank", "unilora"),
    "VBLORA": ("VB-LoRA", "low-rank", "vblora"),
    "VERA": ("VeRA", "low-rank", "vera"),
    "WAVEFT": ("WaveFT", "low-rank", "waveft"),
}
"""PEFT's type: the method's name, its family, and the kind by which runs are filtered."""
LORA_STARTS = {"pissa": "PiSSA", "olora": "OLoRA", "eva": "EVA", "mica": "MiCA", "loftq": "LoftQ", "corda": "CorDA"}
NOISE = ("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "inference_mode", "revision")
"""Fields of a PEFT config that do not change what trains."""


def is_peft_result(document: object) -> bool:
    """Whether a JSON document is one of these files."""
    return isinstance(document, Mapping) and {"run_info", "train_info", "meta_info"} <= set(document)


def imported_result_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The file in Vezna's own format (`ImportedResult`). Raises PeftFieldMissing, naming the field."""
    run, train = _part(document, "run_info"), _part(document, "train_info")
    config = _part(document, "run_info.train_config")
    if (status := train.get("status")) != "success":
        what = _("The status is %(status)s, not success", status=short(status))
        raise PeftFieldMissing("train_info.status", what, _("Import only successful runs"))
    last, test = _last(train)
    peft, data = _part(document, "run_info.peft_config", optional=True), _data(document)
    name, family, kind = _method(peft)
    optimizer = _part(document, "run_info.train_config.optimizer_kwargs", optional=True)
    packages = _part(document, "meta_info.package_info", optional=True)
    system = _part(document, "meta_info.system_info", optional=True)
    return {
        "label": label(peft, config, name),
        "method": kind,
        "family": family,
        "metric": "accuracy",
        "score": test,
        "items": test_items(test) if "gsm8k" in data else None,
        "test_set": f"GSM8K test split, {data['gsm8k']}" if "gsm8k" in data else None,
        "seed": config.get("seed"),
        "base_model": config.get("model_id"),
        "dataset": f"MetaMathQA, {data['metamath']}" if "metamath" in data else None,
        "learning_rate": optimizer.get("lr"),
        "device": system.get("accelerator") or None,
        "precision": {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}.get(str(config.get("dtype"))),
        "versions": {
            package: version
            for package in ("torch", "transformers", "peft")
            if (version := packages.get(f"{package}-version"))
        },
        "steps": last.get("step"),
        "tokens": last.get("train total tokens"),
        "train_seconds": train.get("train_time"),
        "peak_bytes": train.get("accelerator_memory_max"),
        "memory_measure": "accelerator_memory_max, as PEFT's suite writes it",
        "trainable_parameters": train.get("num_trainable_params"),
        "total_parameters": train.get("num_total_params"),
        "file_bytes": train.get("file_size"),
        "settings": _settings(peft, config),
        "source": SOURCE.format(experiment=run.get("experiment_name", "?"), created=str(run.get("created_at"))[:10]),
    }


class PeftFieldMissing(ValueError):
    """A field of a PEFT result is missing or invalid."""

    def __init__(self, path: str, message: Message, remedy: Message) -> None:
        super().__init__(message)
        self.error = FieldError(path, message, remedy)


def label(peft: Mapping[str, Any], config: Mapping[str, Any], name: str) -> str:
    """`LoRA r=32`, `rsLoRA r=64`, `MiSS-mini`, `Lily r=140`: from the config.

    The rank is part of the label for methods that are usually chosen by it (LoRA and its relatives). A comparison adds
    other settings where two results would share a label.
    """
    match peft.get("peft_type"):
        case "LORA":
            name = _kind_of_lora(peft, config)
        case "MISS" if isinstance(peft.get("init_weights"), str):
            name = f"MiSS-{peft['init_weights']}"
        case "TINYLORA" if peft.get("weight_tying"):
            name = "TinyLoRA tied"
        case "DEFT" if peft.get("para"):
            name = "DEFT-para"
        case "FOURIERFT" | "WAVEFT":
            name = f"{name} n={peft.get('n_frequency')}"
        case "PREFIX_TUNING" | "PROMPT_TUNING" | "P_TUNING":
            name = f"{name} n={peft.get('num_virtual_tokens')}"
    rank = peft.get("target_r") if peft.get("peft_type") == "ADALORA" else peft.get("r")
    return f"{name} r={rank}" if rank is not None and peft.get("peft_type") in RANKED else name


RANKED = ("LORA", "ADALORA", "LOHA", "LOKR", "LILY", "DELORA", "GRALORA", "HIRA", "RANDLORA", "DEFT", "PEANUT", "PVERA")
"""PEFT types whose label includes the rank."""


def _kind_of_lora(peft: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    start = peft.get("init_lora_weights")
    named = [
        (peft.get("use_dora"), "DoRA"),
        (peft.get("use_rslora"), "rsLoRA"),
        (peft.get("use_bdlora"), "BD-LoRA"),
        (str(config.get("optimizer_type", "")).lower() == "lora-fa", "LoRA-FA"),
        (isinstance(start, str), LORA_STARTS.get(str(start), f"LoRA {start}")),
    ]
    return next((name for is_so, name in named if is_so), "LoRA")


def _method(peft: Mapping[str, Any]) -> tuple[str, Family, str]:
    if not peft:
        return "full", "full", "full"
    kind = str(peft.get("peft_type", "")).rpartition(".")[2]
    if not kind:
        remedy = _("Add the PEFT type, such as LORA")
        raise PeftFieldMissing("run_info.peft_config.peft_type", _("This field is required"), remedy)
    return NAMES.get(kind, (kind, "low-rank", kind.lower().replace("_", "-")))


def _settings(peft: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run; target modules are sorted, since PEFT writes a set."""
    own = {
        name: sorted(value, key=str) if name == "target_modules" and isinstance(value, list) else value
        for name, value in peft.items()
        if name not in NOISE and value is not None and value != {}
    }
    excluded = ("model_id", "seed")
    return {name: value for name, value in config.items() if name not in excluded} | ({"peft": own} if own else {})


def _last(train: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """The last row of metrics, and its test accuracy."""
    rows = train.get("metrics")
    if not isinstance(rows, list) or not rows or not isinstance(rows[-1], Mapping):
        remedy = _("Add a list whose last entry has 'test accuracy'")
        raise PeftFieldMissing("train_info.metrics", _("There are no metrics"), remedy)
    if "test accuracy" not in rows[-1]:
        where = f"train_info.metrics.{len(rows) - 1}.test accuracy"
        remedy = _("Add the accuracy on the test split, as a fraction")
        raise PeftFieldMissing(where, _("This field is required"), remedy)
    return rows[-1], rows[-1]["test accuracy"]


def test_items(score: object) -> int | None:
    """1,319 if the score is a whole number of correct GSM8K test items; otherwise None (unknown)."""
    if not isinstance(score, float | int) or not 0 <= score <= 1:
        return None
    right = score * GSM8K_TEST_ITEMS
    return GSM8K_TEST_ITEMS if abs(right - round(right)) < 1e-6 else None


def _data(document: Mapping[str, Any]) -> dict[str, str]:
    """The first digits of the commit of each dataset, by its name."""
    datasets = _part(document, "meta_info.dataset_info", optional=True)
    return {
        name: str(_object(f"meta_info.dataset_info.{name}", dataset).get("sha"))[:12]
        for name, dataset in datasets.items()
    }


def _part(document: Mapping[str, Any], path: str, *, optional: bool = False) -> Mapping[str, Any]:
    """An object within the file; a missing optional one is empty."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return {} if optional and value is None else _object(path, value)


def _object(path: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PeftFieldMissing(path, _("Must be an object"), _("Keep what the PEFT benchmark suite writes there"))
    return value
