"""The fields of methods and of the budget in plain words: one table, by the name that a spec has for them."""

from collections.abc import Mapping
from typing import NamedTuple

from app.web.format import rate
from app.web.forms.fields import Field
from app.web.i18n import gettext as _
from app.web.i18n import marked


class Words(NamedTuple):
    """What a field is called, and what one should know to fill it in."""

    label: str
    hint: str
    usual: bool = False
    """It stands open in a form; the others are one click away."""


METHOD_FIELDS: dict[str, Words] = {
    # how much is added
    "r": Words(marked("Rank"), marked("More can learn more, and takes more memory."), usual=True),
    "init_r": Words(marked("Rank at the start"), marked("Directions that each layer begins with."), usual=True),
    "target_r": Words(marked("Rank at the end"), marked("Directions left, on average over the layers."), usual=True),
    "lora_alpha": Words(marked("Scale"), marked("The update is multiplied by alpha / rank."), usual=True),
    "alpha": Words(marked("Scale"), marked("The update is multiplied by alpha / rank."), usual=True),
    "bottleneck_size": Words(marked("Bottleneck"), marked("Width of the small networks."), usual=True),
    "num_virtual_tokens": Words(marked("Virtual tokens"), marked("Each takes a place from the text."), usual=True),
    "layers": Words(marked("Layers"), marked("How many train, counted from the output."), usual=True),
    "oft_block_size": Words(marked("Block size"), marked("Must divide the width of a layer's input."), usual=True),
    # where
    "placement": Words(
        marked("Where"), marked("Behind attention and feed-forward, or behind feed-forward alone."), usual=True
    ),
    "target_modules": Words(
        marked("Adapted layers"),
        marked("Names, all-linear, or a pattern for whole names. Empty: PEFT's choice."),
        usual=True,
    ),
    "feedforward_modules": Words(
        marked("Of these, stretched at the input"),
        marked("Names or a pattern: the feed-forward layers. Empty: PEFT's choice."),
    ),
    "layers_to_transform": Words(marked("Blocks"), marked("Their numbers, from 0. Empty: all.")),
    # how the update is made
    "use_dora": Words(
        marked("Length apart from direction"), marked("DoRA: often a little better, and slower to train.")
    ),
    "use_rslora": Words(marked("Scale by √rank"), marked("rsLoRA: keeps high ranks learning.")),
    "loraplus_lr_ratio": Words(
        marked("Faster second matrix"), marked("LoRA+: its rate is so many times the other's; 16 is usual. Empty: 1.")
    ),
    "init_lora_weights": Words(
        marked("First values"),
        marked("true starts at the base model; pissa and olora start from the weights' main directions."),
    ),
    "prompt_tuning_init": Words(
        marked("First values"), marked("Of random words of the vocabulary, or random numbers.")
    ),
    "d_initial": Words(marked("First value"), marked("What the trained scales start from.")),
    "bias": Words(marked("Bias vectors"), marked("Which of the model's own train too.")),
    "decompose_both": Words(marked("Both factors low-rank"), marked("Fewer parameters still.")),
    "decompose_factor": Words(marked("First factor's side"), marked("At most so large; −1 is as square as may be.")),
    "non_linearity": Words(marked("Non-linearity"), marked("Between the two matrices of an adapter.")),
    "block_share": Words(marked("One block for all"), marked("The same rotation for every part of a layer's input.")),
    "coft": Words(marked("Hold back the rotation"), marked("Constrained OFT: blocks stay near where they began.")),
    "eps": Words(marked("Largest rotation"), marked("How far a block may turn when it is held back.")),
    "use_cayley_neumann": Words(marked("Fast rotation"), marked("Nearly exact, and quicker than an inverse.")),
    "prefix_projection": Words(
        marked("Train through a network"), marked("As in the paper: more parameters while it trains, steadier.")
    ),
    "encoder_reparameterization_type": Words(marked("Network"), marked("What gives the virtual tokens.")),
    "encoder_hidden_size": Words(marked("Its width"), marked("Of the network. Empty: the model's own.")),
    "encoder_num_layers": Words(marked("Its layers"), marked("Of an LSTM; an MLP has its own number.")),
    # against overfitting
    "lora_dropout": Words(marked("Dropout"), marked("Share of the inputs left out at each step.")),
    "vera_dropout": Words(marked("Dropout"), marked("Share of the inputs left out at each step.")),
    "adapter_dropout": Words(marked("Dropout"), marked("Share of the results left out at each step.")),
    "encoder_dropout": Words(marked("Dropout"), marked("Between the layers of an LSTM.")),
    "rank_dropout": Words(marked("Dropout of rows"), marked("Share of the update's rows left out at each step.")),
    "module_dropout": Words(marked("Dropout of layers"), marked("Share of the layers without their update.")),
    "orth_reg_weight": Words(marked("Penalty"), marked("Keeps the directions at right angles.")),
    # when
    "tinit": Words(marked("Wait"), marked("Share of the steps before the first direction is dropped.")),
    "tfinal": Words(marked("Settle"), marked("Share of the steps after the last one is.")),
    "deltaT": Words(marked("Steps between choices"), marked("How often directions are weighed.")),
    "beta1": Words(marked("Memory of importance"), marked("Nearer to 1 changes more slowly.")),
    "beta2": Words(marked("Memory of its variation"), marked("Nearer to 1 changes more slowly.")),
    # what is kept
    "projection_prng_key": Words(marked("Seed of the shared matrices"), marked("The same for every run's seed.")),
    "save_projection": Words(
        marked("Keep the shared matrices"), marked("Larger file, and it loads the same anywhere.")
    ),
}

ARM_FIELDS: dict[str, Words] = {
    "learning_rate": Words(marked("Learning rate"), marked("The highest, once warmed up."), usual=True),
    "learning_rates": Words(
        marked("Rates to try"), marked("Where rates are tuned. Empty: a row around the learning rate.")
    ),
    "weight_decay": Words(marked("Weight decay"), marked("Empty: as in the budget.")),
    "name": Words(marked("Name"), marked("Shown instead of the method's.")),
}
"""What every arm has beside its method."""

TRAINING_FIELDS: dict[str, Words] = {
    "num_train_epochs": Words(marked("Epochs"), marked("How often each row is seen."), usual=True),
    "per_device_train_batch_size": Words(marked("Batch"), marked("Rows at once: more takes more memory."), usual=True),
    "max_length": Words(marked("Longest row"), marked("In tokens; what is longer is cut."), usual=True),
    "max_new_tokens": Words(
        marked("Longest answer"), marked("In tokens, of what it writes when it is tested."), usual=True
    ),
    # steps
    "max_steps": Words(marked("Steps"), marked("Ends after so many, whatever the epochs say. Empty: by epochs.")),
    "gradient_accumulation_steps": Words(
        marked("Batches a step"), marked("A large batch in the memory of a small one.")
    ),
    "warmup_steps": Words(marked("Warm-up"), marked("Steps up to the full rate; below 1, a share of all.")),
    "lr_scheduler_type": Words(marked("Schedule"), marked("How the rate falls after the warm-up.")),
    "weight_decay": Words(marked("Weight decay"), marked("Pulls what trains towards zero; 0 does not.")),
    "max_grad_norm": Words(marked("Longest gradient"), marked("Longer ones are cut to it; 0 cuts none.")),
    # memory and speed
    "bf16": Words(marked("Number format"), marked("bfloat16 halves frozen weights, and is fast on a GPU.")),
    "gradient_checkpointing": Words(
        marked("Compute activations twice"), marked("Less memory, about a third more time.")
    ),
    "cache_frozen_prefix": Words(
        marked("Keep what frozen layers give"), marked("Where the lowest layers are frozen, they run once.")
    ),
    "per_device_eval_batch_size": Words(marked("Batch to evaluate"), marked("Rows at once while nothing trains.")),
    # rows
    "completion_only_loss": Words(marked("Learn completions only"), marked("Off: it learns to write prompts too.")),
    "packing": Words(marked("Pack rows"), marked("Short rows side by side up to the longest: less padding.")),
    # evaluation
    "eval_strategy": Words(marked("Validate"), marked("The best checkpoint is chosen by it.")),
    "eval_steps": Words(marked("Steps between"), marked("Where it is done by steps.")),
    "early_stopping_patience": Words(
        marked("Stop early"), marked("After so many validations without a better one. Empty: never.")
    ),
}
"""What all arms share, in the order in which a form shows it."""

TUNING_FIELDS: dict[str, Words] = {
    "rates": Words(marked("Rates an arm"), marked("As many for every arm."), usual=True),
    "factor": Words(marked("Step"), marked("From a rate to the next; an arm's own is in the middle."), usual=True),
    "seeds": Words(marked("Seeds a rate"), marked("More of them choose less by luck."), usual=True),
    "eta": Words(marked("One in"), marked("So many goes on, for so many times as long."), usual=True),
}
"""How learning rates are looked for."""

OPTIONS: dict[tuple[str, str], str] = {
    ("bf16", ""): marked("bfloat16 where the device has it"),
    ("bf16", "true"): marked("bfloat16"),
    ("bf16", "false"): marked("float32"),
    ("eval_strategy", "epoch"): marked("after each epoch"),
    ("eval_strategy", "steps"): marked("every so many steps"),
    ("bias", "none"): marked("none of them"),
    ("bias", "all"): marked("all of them"),
    ("bias", "lora_only"): marked("of the adapted layers"),
    ("prompt_tuning_init", "SAMPLE_VOCAB"): marked("words"),
    ("prompt_tuning_init", "RANDOM"): marked("random"),
}
"""Choices that are better said in words; the others are known by the names that they have."""


def words(table: Mapping[str, Words], name: str) -> Words:
    """A field's words in the request's language; its own name where there are none."""
    found = table.get(name, Words(name, ""))
    return Words(_(found.label), _(found.hint) if found.hint else "", found.usual)


def of_arm(path: str) -> str:
    """What a field of an arm is called, by its path below the arm: `method.r`, `learning_rate`."""
    return words(METHOD_FIELDS if path.startswith("method.") else ARM_FIELDS, path.rpartition(".")[2]).label


def option(name: str, value: str) -> str:
    """A choice in words."""
    return _(OPTIONS[name, value]) if (name, value) in OPTIONS else value


def bounds(field: Field) -> str:
    """Which numbers a field takes, where that says something: `0 to below 1`, `1 to 16`; empty otherwise."""
    if field.low is None or field.high is None or field.high > (100 if field.whole else 1):
        return ""
    values = {"low": rate(field.low), "high": rate(field.high)}
    match field.open_low, field.open_high:
        case True, True:
            return _("above %(low)s and below %(high)s", **values)
        case True, False:
            return _("above %(low)s, up to %(high)s", **values)
        case False, True:
            return _("%(low)s to below %(high)s", **values)
        case _:
            return _("%(low)s to %(high)s", **values)
