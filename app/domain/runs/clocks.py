"""The time of an attempt by phase, in seconds."""

from pydantic import BaseModel, ConfigDict

_APART = ("download", "ledger_steady", "waiting", "wall")


class Clocks(BaseModel):
    """Seconds by phase. They sum to the attempt's wall time within 1 %."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    download: float = 0.0
    """Fetching the base model from the hub, once a machine: in no other clock, nor in `wall`, since it says nothing of
    the method."""
    load: float = 0.0
    tokenize: float = 0.0
    baseline: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    optimizer: float = 0.0
    data: float = 0.0
    """Within training: building batches, logging, and everything that is not one of the three above."""
    ledger: float = 0.0
    """Training in the first step, in which CUDA loads its kernels, in those whose memory is recorded and, without the
    compilation itself, in those that compile blocks; the four
    above are of the other steps, unless there are none."""
    ledger_steady: float = 0.0
    """Computed: what the steps in `ledger` would take at the other steps' seconds per token; no part of `wall`."""
    waiting: float = 0.0
    """Of the train time: without a processor, since other processes had it. Part of the clocks above."""
    evaluate: float = 0.0
    save: float = 0.0
    audit: float = 0.0
    """Hashing tensors before and after."""
    compile: float = 0.0
    """Compiling blocks (`compile_blocks`), during training and in no step's time."""
    cache: float = 0.0
    """Computing the activations of the frozen prefix, where another run has not left them."""
    weight_delta: float = 0.0
    """Analysing what training did to each matrix, after everything else."""
    start: float = 0.0
    """From the claim to a process that has imported its libraries."""
    wall: float = 0.0
    """The whole attempt, from claim to result, without the download."""

    @property
    def train(self) -> float:
        """The train clock: what all steps take at the speed of those that are not in `ledger`."""
        return self.forward + self.backward + self.optimizer + self.data + self.ledger_steady

    @property
    def method_wall(self) -> float:
        """Wall time without evaluating the base model: it says nothing of the method, and a language model's later runs
        read the result from the worker's cache."""
        return self.wall - self.baseline

    @property
    def accounted(self) -> float:
        """The sum of the phases, to compare with `wall`."""
        return float(sum(seconds for name, seconds in self if name not in _APART))
