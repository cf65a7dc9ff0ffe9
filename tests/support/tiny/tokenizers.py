"""Tiny tokenizers of the kinds that GGUF describes, trained on a few words."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from tests.support.tiny.lm import CHAT_TEMPLATE, SPECIAL, WORDS

TEXTS = [" ".join(WORDS[start:] + WORDS[:start]) for start in range(len(WORDS))]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
ROLES = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def byte_level(kind: str) -> PreTrainedTokenizerFast:
    """Of GPT-2's kind; `qwen2` splits as Qwen does, `digits` separates digits as SmolLM does."""
    backend = Tokenizer(BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    steps = {
        "gpt2": whole,
        "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole]),
        "qwen2": pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    }
    backend.pre_tokenizer = steps[kind]
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(TEXTS, BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet))
    return _finished(backend)


def sentence_piece(*, prefix: bool) -> PreTrainedTokenizerFast:
    """Of SentencePiece's kind, with bytes for unknown characters; with `prefix` a text begins with a space (Llama),
    without one not (Gemma)."""
    backend = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if prefix:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    else:
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    words = [word for text in TEXTS for word in text.split()]
    trainer = BpeTrainer(vocab_size=360, special_tokens=[*SPECIAL, *BYTES])
    # word by word, so that no merge crosses a space
    backend.train_from_iterator([f" {word}" for word in words] if not prefix else words, trainer)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(content=" ", left=1)] if prefix else [])
    )
    return _finished(backend)


def _finished(backend: Tokenizer) -> PreTrainedTokenizerFast:
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **ROLES)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
