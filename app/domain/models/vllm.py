"""The command with which vLLM serves LoRA adapters beside their base model.

https://docs.vllm.ai/en/latest/features/lora.html
"""

from collections.abc import Mapping

from app.domain.methods import AnyMethod, LoraSpec, QloraSpec

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of --max-lora-rank."""


def loads(method: AnyMethod) -> bool:
    """vLLM loads adapters of LoRA and QLoRA, without DoRA and trained biases."""
    plain = isinstance(method, LoraSpec) and not method.use_dora and method.bias == "none"
    return plain or isinstance(method, QloraSpec)


def saved_rank(method: AnyMethod) -> int:
    """Rank of the saved adapter: PiSSA and OLoRA are saved with 2r, for the original base model."""
    assert isinstance(method, LoraSpec | QloraSpec)  # noqa: S101 that vLLM loads
    return method.r * 2 if isinstance(method, LoraSpec) and method.moves_base else method.r


def command(base: str, revision: str, rank: int, adapters: Mapping[str, str]) -> str:
    """`adapters`: folders by the names of the served models. `rank`: the highest of them. `revision`: empty for a
    directory."""
    source = base + (f" --revision {revision}" if revision else "")
    allowed = next((value for value in RANKS if value >= rank), rank)
    modules = " ".join(f"{name}={folder}" for name, folder in adapters.items())
    return f"vllm serve {source} --enable-lora --max-lora-rank {allowed} --lora-modules {modules}"
