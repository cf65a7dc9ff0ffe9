"""The fields of methods, arms, budgets and tuning: one table of labels and hints, by the name of the argument.

A label is the term of PEFT, transformers or the paper. A form shows the name of the argument beside it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from app.words.i18n import gettext as _
from app.words.i18n import marked


class FieldText(NamedTuple):
    """A field's label, and what helps to fill it in."""

    label: str
    hint: str
    basic: bool = False
    """A form shows it at once; the others are one click away."""


METHOD_FIELDS: dict[str, FieldText] = {
    # size
    "r": FieldText(
        marked("Rank"), marked("Rank of the update. A higher rank can learn more and needs more memory."), basic=True
    ),
    "init_r": FieldText(marked("Initial rank"), marked("Rank of every target module at the start."), basic=True),
    "target_r": FieldText(marked("Target rank"), marked("Average rank of the target modules at the end."), basic=True),
    "lora_alpha": FieldText(
        marked("LoRA alpha"), marked("The update is scaled by alpha / r, with rsLoRA by alpha / √r."), basic=True
    ),
    "alpha": FieldText(marked("Alpha"), marked("The update is scaled by alpha / r."), basic=True),
    "bottleneck_size": FieldText(
        marked("Bottleneck size"), marked("Width between the two projections of an adapter."), basic=True
    ),
    "num_virtual_tokens": FieldText(
        marked("Virtual tokens"), marked("Each takes a position of the model's context."), basic=True
    ),
    "layers": FieldText(marked("Layers to train"), marked("Number of blocks, counted from the output."), basic=True),
    "optim": FieldText(
        marked("Optimizer"), marked("8-bit AdamW takes 2 bytes per parameter, Adafactor nearly none."), basic=True
    ),
    "weight_storage": FieldText(
        marked("Weights in"),
        marked("bfloat16 keeps small updates by stochastic rounding or Kahan summation."),
        basic=True,
    ),
    "oft_block_size": FieldText(
        marked("OFT block size"), marked("Must divide the input width of every target module."), basic=True
    ),
    # where
    "placement": FieldText(
        marked("Placement"),
        marked("houlsby: after attention and feed-forward. pfeiffer: after feed-forward only."),
        basic=True,
    ),
    "target_modules": FieldText(
        marked("Target modules"),
        marked("all-linear, module names, peft-default (PEFT's own choice), or a regular expression for full names."),
        basic=True,
    ),
    "feedforward_modules": FieldText(
        marked("Feed-forward modules"),
        marked("Target modules that are scaled at their input instead of their output. peft-default: PEFT's choice."),
    ),
    "layers_to_transform": FieldText(marked("Layers to transform"), marked("Block numbers from 0. Empty: all blocks.")),
    "offload_activations": FieldText(
        marked("Offload activations"), marked("The inputs of recomputed blocks wait in the host's memory; GPUs only.")
    ),
    "step_in_backward": FieldText(
        marked("Step in backward"),
        marked("Updates each weight once its gradient is there, and frees it: no clipping, no accumulation."),
    ),
    # parameterization
    "use_dora": FieldText(
        marked("DoRA (weight-decomposed)"),
        marked("Trains the magnitude and the direction of each weight separately. Slower to train."),
    ),
    "use_rslora": FieldText(marked("rsLoRA (scale by √r)"), marked("Keeps high ranks learning.")),
    "loraplus_lr_ratio": FieldText(
        marked("LoRA+ LR ratio"), marked("Learning rate of B divided by that of A; the authors use 16. Empty: 1.")
    ),
    "init_lora_weights": FieldText(
        marked("Initialization"),
        marked("true starts at the base model. pissa and olora start from the weights' principal directions."),
    ),
    "prompt_tuning_init": FieldText(
        marked("Initialization"), marked("Embeddings of random vocabulary tokens, or random vectors.")
    ),
    "d_initial": FieldText(marked("Initial d"), marked("Initial value of the scaling vector d.")),
    "bias": FieldText(marked("Bias"), marked("Bias vectors of the base model that train too.")),
    "decompose_both": FieldText(
        marked("Decompose both factors"), marked("The first Kronecker factor has low rank too: fewer parameters.")
    ),
    "decompose_factor": FieldText(
        marked("Decompose factor"), marked("Largest side of the first factor. −1: as square as possible.")
    ),
    "non_linearity": FieldText(marked("Non-linearity"), marked("Activation between the two projections.")),
    "block_share": FieldText(marked("Shared block"), marked("One rotation for all blocks of a module's input.")),
    "coft": FieldText(marked("Constrained OFT (COFT)"), marked("Limits how far the blocks rotate.")),
    "eps": FieldText(marked("Max rotation (eps)"), marked("The limit of COFT.")),
    "use_cayley_neumann": FieldText(
        marked("Cayley–Neumann"), marked("Approximates the matrix inverse with five terms: faster, nearly exact.")
    ),
    "prefix_projection": FieldText(
        marked("Prefix projection"),
        marked("Reparameterizes the prefix with an MLP during training, as in the paper: more stable."),
    ),
    "encoder_reparameterization_type": FieldText(
        marked("Prompt encoder"), marked("Network that produces the virtual tokens during training.")
    ),
    "encoder_hidden_size": FieldText(
        marked("Encoder hidden size"), marked("Width of the MLP or LSTM. Empty: the model's.")
    ),
    "encoder_num_layers": FieldText(marked("Encoder layers"), marked("Layers of an LSTM; an MLP has three.")),
    # regularization
    "lora_dropout": FieldText(marked("LoRA dropout"), marked("Dropout on the input of A.")),
    "vera_dropout": FieldText(marked("VeRA dropout"), marked("Dropout on the input of A.")),
    "adapter_dropout": FieldText(marked("Adapter dropout"), marked("Dropout after the non-linearity.")),
    "encoder_dropout": FieldText(marked("Encoder dropout"), marked("Dropout between the layers of an LSTM.")),
    "rank_dropout": FieldText(marked("Rank dropout"), marked("Share of the update's rows dropped at each step.")),
    "module_dropout": FieldText(
        marked("Module dropout"), marked("Share of modules that skip their update at each step.")
    ),
    "orth_reg_weight": FieldText(
        marked("Orthogonal regularization weight"), marked("Keeps A and B near orthogonal matrices.")
    ),
    # AdaLoRA's schedule
    "tinit": FieldText(marked("Pruning start (share of steps)"), marked("Share before the first pruning.")),
    "tfinal": FieldText(marked("Pruning end (share of steps)"), marked("Share after the last pruning.")),
    "deltaT": FieldText(marked("Pruning interval (steps)"), marked("Steps between two prunings.")),
    "beta1": FieldText(
        marked("Importance smoothing (β₁)"), marked("EMA coefficient: nearer to 1, it changes more slowly.")
    ),
    "beta2": FieldText(
        marked("Uncertainty smoothing (β₂)"), marked("EMA coefficient: nearer to 1, it changes more slowly.")
    ),
    # VeRA's shared matrices
    "projection_prng_key": FieldText(marked("Projection seed"), marked("The same for every seed of the arm.")),
    "save_projection": FieldText(
        marked("Save projection matrices"), marked("Larger file, which loads identically on every machine.")
    ),
}

AS_IN_BUDGET = marked("Empty: as in the budget.")
ARM_FIELDS: dict[str, FieldText] = METHOD_FIELDS | {
    "learning_rate": FieldText(marked("Learning rate"), marked("Peak rate, after the warmup."), basic=True),
    "train_fraction": FieldText(marked("Share of the training rows"), AS_IN_BUDGET),
    "num_train_epochs": FieldText(marked("Epochs"), AS_IN_BUDGET),
    "max_steps": FieldText(marked("Max steps"), AS_IN_BUDGET),
    "per_device_train_batch_size": FieldText(marked("Batch size"), AS_IN_BUDGET),
    "gradient_accumulation_steps": FieldText(marked("Gradient accumulation steps"), AS_IN_BUDGET),
    "devices": FieldText(marked("Devices"), AS_IN_BUDGET),
    "warmup_steps": FieldText(marked("Warmup steps"), AS_IN_BUDGET),
    "weight_decay": FieldText(marked("Weight decay"), AS_IN_BUDGET),
    "name": FieldText(marked("Arm name"), marked("Empty: the method, with the settings that differ.")),
}
"""Fields of an arm: those of its method, then those that every arm has."""

TRAINING_FIELDS: dict[str, FieldText] = {
    "num_train_epochs": FieldText(marked("Epochs"), marked("Passes over the training split."), basic=True),
    "per_device_train_batch_size": FieldText(
        marked("Batch size"), marked("Rows in one forward and backward pass; more rows need more memory."), basic=True
    ),
    "max_length": FieldText(marked("Max length (tokens)"), marked("Longer rows are truncated."), basic=True),
    "max_new_tokens": FieldText(
        marked("Max new tokens"), marked("Limit of the text generated for a test prompt."), basic=True
    ),
    # steps
    "train_fraction": FieldText(
        marked("Share of the training rows"), marked("A smaller share is a subset of a larger one.")
    ),
    "max_steps": FieldText(marked("Max steps"), marked("Overrides the epochs. Empty: by epochs.")),
    "gradient_accumulation_steps": FieldText(
        marked("Gradient accumulation steps"), marked("Micro-batches per optimizer step, on all devices.")
    ),
    "devices": FieldText(marked("Devices"), marked("GPUs of one worker that divide the micro-batches of a step.")),
    "warmup_steps": FieldText(marked("Warmup steps"), marked("Below 1: a share of all steps.")),
    "lr_scheduler_type": FieldText(marked("LR scheduler"), marked("How the learning rate decays after the warmup.")),
    "weight_decay": FieldText(marked("Weight decay"), marked("Of AdamW; 0 disables it.")),
    "max_grad_norm": FieldText(
        marked("Max gradient norm"), marked("Gradients are clipped to it; 0 disables clipping.")
    ),
    # memory and speed
    "bf16": FieldText(marked("Precision"), marked("bfloat16 halves frozen weights, and is fast on GPUs.")),
    "gradient_checkpointing": FieldText(
        marked("Gradient checkpointing"), marked("Recomputes activations: less memory, about a third more time.")
    ),
    "cache_frozen_prefix": FieldText(
        marked("Cache frozen-layer activations"), marked("Frozen layers at the bottom of the model run only once.")
    ),
    "compile_blocks": FieldText(
        marked("Compile blocks"), marked("torch.compile: minutes to compile once, then fewer passes over memory.")
    ),
    "per_device_eval_batch_size": FieldText(marked("Eval batch size"), marked("Rows in one pass of an evaluation.")),
    # rows
    "preference_loss": FieldText(
        marked("Preference loss"), marked("DPO learns relative to the base model; ORPO also imitates chosen answers.")
    ),
    "beta": FieldText(
        marked("Beta"), marked("DPO: a larger one stays closer to the base model. ORPO: weight of the odds ratio.")
    ),
    "completion_only_loss": FieldText(marked("Completion-only loss"), marked("Off: the loss includes the prompt.")),
    "packing": FieldText(marked("Packing"), marked("Puts several short rows into one sequence: less padding.")),
    "padding_free": FieldText(
        marked("Padding-free batches"), marked("Computes no padding and does not sort rows by length.")
    ),
    # evaluation
    "eval_strategy": FieldText(
        marked("Evaluate every"), marked("On the validation split, which chooses the best checkpoint.")
    ),
    "eval_steps": FieldText(marked("Eval steps"), marked("Optimizer steps between two evaluations.")),
    "early_stopping_patience": FieldText(
        marked("Early stopping patience"), marked("Evaluations without an improvement before it stops. Empty: never.")
    ),
}
"""The budget that all arms share, in the order of the form."""

SEARCH_FIELDS: dict[str, FieldText] = {
    "learning_rate": FieldText(
        marked("Learning rate"),
        marked("Values, or a range: 1e-4 to 0.01. If nothing is searched: around the arm's own rate."),
        basic=True,
    ),
    "batch_size": FieldText(
        marked("Batch size"), marked("Rows per optimizer step: batch size × accumulation."), basic=True
    ),
    "r": FieldText(marked("Rank"), marked("Alpha keeps its ratio to the rank."), basic=True),
    "lora_alpha": FieldText(marked("Alpha"), marked("Instead of a constant ratio to the rank."), basic=True),
    "num_train_epochs": FieldText(marked("Epochs"), marked("Whole numbers within a range."), basic=True),
    "max_steps": FieldText(marked("Max steps"), marked("Instead of epochs."), basic=True),
    "weight_decay": FieldText(marked("Weight decay"), marked("Of AdamW."), basic=True),
    "warmup_steps": FieldText(marked("Warmup steps"), marked("Below 1: a share of all steps."), basic=True),
}
"""What an arm's trials vary."""

TUNING_FIELDS: dict[str, FieldText] = {
    "budget": FieldText(marked("Budget per arm"), marked("The same for every arm."), basic=True),
    "unit": FieldText(marked("Budget unit"), marked("What the budget counts."), basic=True),
    "rates": FieldText(
        marked("Rates per arm"), marked("Values tried of a range; the same number for every arm."), basic=True
    ),
    "factor": FieldText(
        marked("Grid factor"), marked("Ratio of neighbouring rates; the arm's own rate is in the middle."), basic=True
    ),
    "seeds": FieldText(
        marked("Seeds per configuration"), marked("More seeds make the choice less random."), basic=True
    ),
    "eta": FieldText(
        marked("Reduction factor (η)"),
        marked("One configuration in η advances to the next round, which is η times as long."),
        basic=True,
    ),
    "seed": FieldText(marked("Sampling seed"), marked("Fixes which configurations are drawn.")),
}

OPTIONS: dict[tuple[str, str], str] = {
    ("bf16", ""): marked("bfloat16 if the device supports it"),
    ("bf16", "true"): marked("bfloat16"),
    ("bf16", "false"): marked("float32"),
    ("eval_strategy", "epoch"): marked("epoch"),
    ("eval_strategy", "steps"): marked("number of steps"),
    ("bias", "none"): marked("none"),
    ("bias", "all"): marked("all"),
    ("bias", "lora_only"): marked("of the target modules"),
    ("optim", "adamw_torch"): marked("AdamW"),
    ("optim", "adamw_bnb_8bit"): marked("8-bit AdamW"),
    ("optim", "adafactor"): marked("Adafactor"),
    ("weight_storage", "float32"): marked("float32"),
    ("weight_storage", "bf16-stochastic"): marked("bf16, stochastic"),
    ("weight_storage", "bf16-kahan"): marked("bf16, Kahan"),
    ("unit", "trials"): marked("trials"),
    ("unit", "tokens"): marked("training tokens"),
    ("unit", "seconds"): marked("device-seconds"),
    ("prompt_tuning_init", "SAMPLE_VOCAB"): marked("vocabulary tokens"),
    ("prompt_tuning_init", "RANDOM"): marked("random vectors"),
}
"""Titles of choices; the others are shown by their own names."""


def field_text(table: Mapping[str, FieldText], name: str) -> FieldText:
    """A field's label and hint in the request's language; its own name where it has none."""
    text = table.get(name, FieldText(name, ""))
    return FieldText(_(text.label), _(text.hint) if text.hint else "", text.basic)


def option(name: str, value: str) -> str:
    return _(OPTIONS[name, value]) if (name, value) in OPTIONS else value
