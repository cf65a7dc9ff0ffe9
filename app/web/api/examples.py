"""The examples of the API's documentation: the same specs as in `examples/`, which a test submits."""

from typing import Any

from app import sample
from app.domain.runs import RunSpec

_study = sample.study()
_lora = _study.owed()[1].spec

STUDY: dict[str, Any] = {
    "sample": {
        "summary": "Full fine-tuning against LoRA and a linear probe, three seeds",
        "value": _study.model_dump(mode="json", exclude_defaults=True),
    }
}
RUN: dict[str, Any] = {
    "lora": {
        "summary": "One run of LoRA, r = 8 on query and value",
        "value": RunSpec.model_validate(_lora).model_dump(mode="json", exclude_defaults=True),
    }
}
