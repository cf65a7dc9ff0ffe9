"""Freeze audit: check that exactly the parameters that should train have changed.

Two mistakes look like a bad method: a tensor that should train is frozen (the head under PEFT is the classic), or one
that should be frozen trains, which invalidates the comparison of memory and parameters. Before training, the names with
`requires_grad` are compared with the method's own rule. After it, the hash of every parameter is compared with its hash
before: each frozen one must be equal, each trainable one different. On a CPU the hash is SHA-256; on a GPU it is
`fingerprint`, because copying an 8B model to the host and hashing it there takes longer than many runs train.

Some tensors legitimately never get a gradient: a module that the forward pass does not use, or LoRA's A in a run of a
single step, because B is still zero. The optimizer identifies them: no state, or a first moment of zeros. They become
notes, not errors, as long as most of the trainable parameters changed.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from math import prod

import torch
from torch import nn

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from app.domain.models.architecture import Tensor
from app.domain.runs.result import Audit, AuditGroup
from worker.engine.models.quantized.quantization import shape, stored

_SHOWN = 3
_MULTIPLIERS = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9)
"""Odd, with irregular bits: golden ratio and SplitMix64 (Steele et al. 2014), without their highest bits, so that they
fit into a signed integer."""
_WORDS = 2**20
"""Words at a time, so that a fingerprint takes some 32 MiB beside the tensor."""


def check_trainable(model: nn.Module, expected: Collection[Tensor]) -> None:
    """Before training: raise `RunFailed(audit)` unless exactly the expected parameters, with the expected shapes,
    require a gradient."""
    actual = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    shapes = {tensor.name: tensor.shape for tensor in expected}
    problems = _sentences(
        actual.keys() - shapes.keys(),
        lambda name: _("%(name)s is trainable, but the method does not train it.", name=name),
    )
    problems += _sentences(
        shapes.keys() - actual.keys(),
        lambda name: _("%(name)s is frozen or absent, but the method trains it.", name=name),
    )
    differing = {name for name in actual.keys() & shapes.keys() if actual[name] != shapes[name]}
    _fail(
        problems
        + _sentences(differing, lambda name: _("%(name)s does not have the shape that the method expects.", name=name))
    )


def hashes(model: nn.Module) -> dict[str, bytes]:
    """The hash of every parameter's bytes, by name."""
    return {name: _hash(parameter) for name, parameter in model.named_parameters()}


def compare(
    before: dict[str, bytes],
    model: nn.Module,
    groups: Mapping[str, str],
    without_gradient: Collection[str],
    may_return: Collection[str] = (),
    below_rounding: Collection[str] = (),
) -> Audit:
    """After training: compare every parameter's hash with the one before.

    `groups` gives the group of each trainable parameter; `without_gradient` are those that never received one,
    `may_return` those that the method may reset, and `below_rounding` those of whose change Kahan summation remembers a
    part: a weight of 1 keeps its bfloat16 value until the changes add up to 0.004.

    Raises `RunFailed(audit)` if a frozen parameter changed, a trainable one with a gradient did not, or less than half
    of the trainable parameters changed.
    """
    parameters = dict(model.named_parameters())
    after = hashes(model)
    changed = {name for name in parameters if after[name] != before[name]}
    trainable = {name for name, p in parameters.items() if p.requires_grad}
    remembered = (trainable - changed).intersection(below_rounding)
    still = trainable - changed - remembered
    returned = still.intersection(may_return) - set(without_gradient)
    problems = _sentences(changed - trainable, lambda name: _("%(name)s is frozen, but it changed.", name=name))
    problems += _sentences(
        still - set(without_gradient) - returned,
        lambda name: _(
            "%(name)s had a gradient and did not change (or the learning rate is below its precision).", name=name
        ),
    )
    if _count(parameters, trainable & changed | remembered) * 2 < _count(parameters, trainable):
        problems.append(_("Less than half of the trainable parameters changed."))
    _fail(problems)
    members: dict[str, list[str]] = {}
    for name in parameters:
        members.setdefault(groups[name] if name in trainable else "frozen", []).append(name)
    members["frozen"] = members.pop("frozen", [])
    return Audit(
        passed=True,
        groups=[
            AuditGroup(
                name=name,
                tensors=len(names),
                parameters=_count(parameters, names),
                changed=len(changed.intersection(names)),
            )
            for name, names in members.items()
        ],
        notes=[
            *_sentences(
                remembered,
                lambda name: _(
                    "%(name)s changed by less than bfloat16 holds: Kahan summation remembers the change.", name=name
                ),
            ),
            *_sentences(
                returned, lambda name: _("%(name)s trained, and the method reset it to its initial value.", name=name)
            ),
            *_sentences(
                still - returned,
                lambda name: _(
                    "%(name)s trains, but never had a gradient: the forward pass does not use it, or it was zero.",
                    name=name,
                ),
            ),
        ],
    )


def fingerprint(tensor: torch.Tensor) -> bytes:
    """128 bits of a tensor, computed where it is: two sums of its 32-bit words, each multiplied by an odd number that
    depends on its position, modulo 2⁶⁴.

    A change of one word always changes both sums, because odd numbers have an inverse; other changes cancel out in both
    with a probability of about 2⁻¹²⁸. It protects from mistakes, not from an attacker.
    """
    data = tensor.detach().contiguous().view(-1).view(torch.uint8)
    if data.numel() % 4 or data.storage_offset() % 4:  # otherwise the words are a view of the tensor
        data = nn.functional.pad(data, (0, -data.numel() % 4))
    words = data.view(torch.int32)
    sums = torch.zeros(len(_MULTIPLIERS), dtype=torch.int64, device=tensor.device)
    for start in range(0, words.numel(), _WORDS):
        chunk = words[start : start + _WORDS].long()
        places = torch.arange(start, start + chunk.numel(), device=tensor.device)
        for i, multiplier in enumerate(_MULTIPLIERS):
            mixed = (places + 1) * multiplier
            mixed = (mixed ^ (mixed >> 29)) * multiplier | 1
            sums[i] += (chunk * mixed).sum()
    return sums.cpu().numpy().tobytes()


def _hash(parameter: torch.Tensor) -> bytes:
    if parameter.device.type != "cpu":
        return b"".join(fingerprint(tensor) for tensor in stored(parameter))
    digest = hashlib.sha256()
    for tensor in stored(parameter):
        # via bytes, since numpy has no bfloat16
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def _count(parameters: dict[str, nn.Parameter], names: Iterable[str]) -> int:
    return sum(prod(shape(parameters[name])) for name in names)


def _sentences(names: Collection[str], about: Callable[[str], Message]) -> list[Message]:
    shown = [about(name) for name in sorted(names)[:_SHOWN]]
    return shown + ([_("The same holds for %(count)s more.", count=len(names) - _SHOWN)] if len(names) > _SHOWN else [])


def _fail(problems: list[Message]) -> None:
    if problems:
        raise RunFailed(FailureCode.AUDIT, Message.joined([_("The freeze audit failed."), *problems]))
