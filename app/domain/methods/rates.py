"""Default learning rates: they fall with the width of the base model, and each method has its multiple.

    rate = 5e-5 · m · (2000 / width)^0.781        m: 1 for full fine-tuning, 10 for LoRA

The form and its constants are those of Tinker's documentation (supervised-learning/sl-hyperparams, 2025: sweeps of
Llama models; independent of LoRA's rank); the factor of 10 is also that of LoRA Without Regret (Schulman et al. 2025).
The multiples of other methods are ours: see docs/tuning.md.
"""

FULL_RATE = 5e-5
"""Learning rate of full fine-tuning at the width `REFERENCE_WIDTH`."""
REFERENCE_WIDTH = 2000
EXPONENT = 0.781
NARROWEST = 384
"""Narrower models get the rate of this width: no sweep supports a higher one."""


def default_rate(multiple: float, width: int | None = None) -> float:
    """The peak learning rate of a method for a base model with tokens of this width, to two digits. `multiple` is the
    method's, of full fine-tuning's rate. Without a width, that of `NARROWEST`."""
    ratio = REFERENCE_WIDTH / max(width or NARROWEST, NARROWEST)
    return float(f"{FULL_RATE * multiple * ratio**EXPONENT:.1e}")
