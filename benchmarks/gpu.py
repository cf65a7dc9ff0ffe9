"""Full fine-tuning, LoRA and QLoRA on one GPU: a Llama with random weights, as large as full fine-tuning allows.

    python benchmarks/gpu.py [--steps 20] [--length 512] [--batch 4] [--here]

Where there is no CUDA device it says so and ends. `--here` trains the smallest model on whatever there is, to see that
it works. Full fine-tuning in float32 takes 16 bytes a parameter (weights, gradients, AdamW's two moments);
the model is the largest whose 16 bytes fit into 60% of the card, which leaves the rest to activations and logits. Every
method then trains that model, in a trainer of its own: the peak is CUDA's `max_memory_allocated` in training, tokens
are counted over the train clock, which runs through the first steps too.
"""

import argparse
import random
import tempfile
from pathlib import Path

import torch
from speed.trained import trained
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.domain.data.dataset import TextRow
from app.domain.methods import FullSpec, LoraSpec, MethodSpec, QloraSpec
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments

WORDS = 32_000
SHAPES = [(256, 4), (768, 12), (1024, 16), (1536, 20), (2048, 22), (2560, 32), (3072, 36), (4096, 32)]
"""Width and number of blocks."""
SHARE, BYTES = 0.6, 16
METHODS: list[MethodSpec] = [FullSpec(), LoraSpec(r=16, target_modules="all-linear"), QloraSpec(r=16)]


def config(width: int, blocks: int, length: int) -> LlamaConfig:
    """Shaped as Llama 2: heads of 128 numbers (64 in the smallest), an MLP of 8/3 of the width."""
    return LlamaConfig(
        vocab_size=WORDS,
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=width // (128 if width > 512 else 64),
        intermediate_size=-(-8 * width // 3 // 256) * 256,
        max_position_embeddings=max(2048, length),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def parameters(shape: LlamaConfig) -> int:
    """How many a model of that shape has."""
    with torch.device("meta"):
        return sum(p.numel() for p in LlamaForCausalLM(shape).parameters())


def chosen(length: int, total_bytes: int) -> LlamaConfig:
    """The largest that full fine-tuning can train on a card, or the smallest of all."""
    shapes = [config(*shape, length) for shape in SHAPES]
    return [s for s in shapes if BYTES * parameters(s) <= SHARE * total_bytes or s is shapes[0]][-1]


def save(shape: LlamaConfig, folder: Path) -> Path:
    """A base model's directory: random weights in bfloat16, as such models come, and a token for every word."""
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        LlamaForCausalLM(shape).to(torch.bfloat16).save_pretrained(folder)
    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(WORDS - 3))])}
    backend = Tokenizer(WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=2048
    ).save_pretrained(folder)
    return folder


def texts(count: int, length: int) -> list[TextRow]:
    """Rows of `length` tokens, and one to test."""
    draw = random.Random(0)
    written = [" ".join(f"w{draw.randrange(WORDS - 3)}" for _ in range(length)) for _ in range(count + 1)]
    return [TextRow(str(i), "test" if i == count else "train", text) for i, text in enumerate(written)]


def line(method: MethodSpec, model: Path, options: argparse.Namespace) -> str:
    """Train with a method: a line of the table."""
    training = TrainingArguments(
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=1,
        max_length=options.length,
    )
    spec = RunSpec(base_model="random", dataset="words", task="causal-lm", method=method, training=training)
    rows = texts(options.batch * options.steps, options.length)
    try:
        with tempfile.TemporaryDirectory() as directory:
            result, _ = trained(spec, model, [], rows, Path(directory), "text")
    except RuntimeError as error:
        return f"| {method.label} | {str(error).splitlines()[0]} |" + " |" * 6
    memory, gib, about = result.memory, 2**30, result.environment
    return (
        f"| {method.label} | {about.precision}, frozen in {about.frozen_dtype} | {result.parameters.trainable:,} "
        f"| {memory.train_peak_bytes / gib:.2f} | {memory.peak_bytes / gib:.2f} "
        f"| {(memory.reserved_bytes or 0) / gib:.2f} | {result.tokens / result.clocks.train:,.0f} "
        f"| {1e3 * result.clocks.train / result.steps:.0f} |"
    )


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--length", type=int, default=512, help="tokens a row")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--here", action="store_true", help="the smallest model, on whatever there is")
    options = parser.parse_args()
    if not (torch.cuda.is_available() or options.here):
        print("There is no CUDA device here.")
        return
    total = 0 if options.here else torch.cuda.get_device_properties(0).total_memory
    shape = chosen(options.length, total)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(
        f"{name}, {total / 2**30:.0f} GiB, torch {torch.__version__}; {parameters(shape) / 1e9:.2f} billion parameters "
        f"({shape.num_hidden_layers} blocks of width {shape.hidden_size}), {options.steps} steps of {options.batch} × "
        f"{options.length} tokens\n"
    )
    print(
        "| method | precision | trainable | peak of training (GiB) | peak (GiB) | reserved (GiB) | tokens/s "
        "| step (ms) |\n|" + "---|" * 8,
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        model = save(shape, Path(folder))
        torch.cuda.empty_cache()
        for method in METHODS:
            print(line(method, model, options), flush=True)


if __name__ == "__main__":
    main()
