"""Llamas with random weights in known sizes, a tokenizer of words, and rows of mixed lengths."""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.domain.data.dataset import TextRow

SPECIAL = ["<pad>", "<s>", "</s>"]


@dataclass(frozen=True)
class Size:
    """A shape of Llama: as the published model of its name, or of heads with 128 values and an MLP of 8/3."""

    name: str
    width: int
    blocks: int
    heads: int
    key_value_heads: int
    mlp: int
    words: int = 32_000
    tied: bool = False

    @property
    def config(self) -> LlamaConfig:
        """transformers' configuration."""
        return LlamaConfig(
            vocab_size=self.words,
            hidden_size=self.width,
            num_hidden_layers=self.blocks,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            intermediate_size=self.mlp,
            max_position_embeddings=4096,
            tie_word_embeddings=self.tied,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )

    @property
    def parameters(self) -> int:
        """Their number."""
        with torch.device("meta"):
            return sum(p.numel() for p in LlamaForCausalLM(self.config).parameters())

    def flops(self, lengths: list[int], r: int) -> float:
        """Floating-point operations of training LoRA of rank r on every linear layer, over rows of these lengths,
        without padding.

        A token takes 2 per weight of a matrix in the forward pass and 2 in the backward pass, whose other product
        (the weight's own gradient, 2 more) only A and B need. Causal attention takes 2·T·width per token and block
        in the forward pass, and twice that backward.
        """
        narrow = self.width // self.heads * self.key_value_heads
        layers = 2 * [(self.width, self.width)] + 2 * [(self.width, narrow)] + 3 * [(self.width, self.mlp)]
        matrices = self.blocks * sum(a * b for a, b in layers) + self.width * self.words
        adapters = self.blocks * sum(r * (a + b) for a, b in layers)
        attention = sum(6 * self.blocks * self.width * length**2 for length in lengths)
        return float(sum(lengths) * (4 * matrices + 6 * adapters) + attention)


TINY = Size("tiny", 64, 2, 4, 2, 128, words=256)
SMALL = Size("160M", 768, 12, 12, 12, 2048)
ONE = Size("1B", 2048, 16, 32, 8, 8192, words=128_256, tied=True)  # as Llama 3.2 1B
MIDDLE = Size("2.7B", 2560, 32, 20, 20, 6912)
EIGHT = Size("8B", 4096, 32, 32, 8, 14_336, words=128_256)  # as Llama 3 8B


def saved(size: Size, scratch: Path, device: str) -> Path:
    """A base model's directory, made when it is first needed: weights in bfloat16, and a token for every word."""
    folder = scratch / size.name
    if (folder / "tokenizer.json").exists():
        return folder
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # never in float32: 8 billion would take 32 GB
    try:
        with torch.device(device):
            LlamaForCausalLM(size.config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(default)
    words = {word: i for i, word in enumerate([*SPECIAL, *(f"w{i}" for i in range(size.words - len(SPECIAL)))])}
    backend = Tokenizer(WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=4096, **names).save_pretrained(folder)
    return folder


def texts(count: int, longest: int, words: int = 200, *, shortest: int | None = None) -> list[TextRow]:
    """Rows to train on, and a short one to test. Lengths are uniform in their logarithm between `shortest` (a sixteenth
    of the longest) and `longest`; every eighth row has the longest."""
    draw = random.Random(0)
    low, high = math.log(shortest or max(4, longest // 16)), math.log(longest)
    lengths = [longest if i % 8 == 0 else round(math.exp(draw.uniform(low, high))) for i in range(count)]
    written = [" ".join(f"w{draw.randrange(words)}" for _ in range(length)) for length in [*lengths, 4]]
    return [TextRow(str(i), "test" if i == count else "train", text) for i, text in enumerate(written)]
