"""The fine-tuning methods, as a union of small specs tagged by `kind`; one file per family.

To add a method, write its file here and add it to the union below. A method of PEFT, or one that only selects
parameters of the model, needs nothing else; one with its own modules also has a file in `worker/engine/methods/`.
"""

from typing import Annotated, get_args

from pydantic import Field

from app.domain.methods.adapters import BottleneckAdapterSpec
from app.domain.methods.base import Family, Mechanism, Method, MethodFacts, PeftMethod, Targeted
from app.domain.methods.lora import LoraSpec
from app.domain.methods.lowrank import AdaLoraSpec, LohaSpec, LokrSpec, VeraSpec
from app.domain.methods.prompts import PrefixSpec, PromptSpec, PTuningSpec
from app.domain.methods.quantized import QloraSpec
from app.domain.methods.scaling import Ia3Spec, OftSpec
from app.domain.methods.scratch import LoraFromScratchSpec
from app.domain.methods.selection import BitFitSpec, FullSpec, HeadOnlySpec, LastLayersSpec, LeanFullSpec

AnyMethod = (
    FullSpec
    | LeanFullSpec
    | LoraSpec
    | QloraSpec
    | LoraFromScratchSpec
    | BottleneckAdapterSpec
    | AdaLoraSpec
    | LohaSpec
    | LokrSpec
    | VeraSpec
    | OftSpec
    | Ia3Spec
    | PrefixSpec
    | PromptSpec
    | PTuningSpec
    | HeadOnlySpec
    | LastLayersSpec
    | BitFitSpec
)
MethodSpec = Annotated[AnyMethod, Field(discriminator="kind")]

SPECS: dict[str, type[AnyMethod]] = {spec.facts.kind: spec for spec in get_args(AnyMethod)}
METHODS: dict[str, MethodFacts] = {kind: spec.facts for kind, spec in SPECS.items()}
"""In the order of a form."""

__all__ = [
    "METHODS",
    "SPECS",
    "AdaLoraSpec",
    "AnyMethod",
    "BitFitSpec",
    "BottleneckAdapterSpec",
    "Family",
    "FullSpec",
    "HeadOnlySpec",
    "Ia3Spec",
    "LastLayersSpec",
    "LeanFullSpec",
    "LohaSpec",
    "LokrSpec",
    "LoraFromScratchSpec",
    "LoraSpec",
    "Mechanism",
    "Method",
    "MethodFacts",
    "MethodSpec",
    "OftSpec",
    "PTuningSpec",
    "PeftMethod",
    "PrefixSpec",
    "PromptSpec",
    "QloraSpec",
    "Targeted",
    "VeraSpec",
]
