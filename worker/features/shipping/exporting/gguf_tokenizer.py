"""The tokenizer of a GGUF file: vocabulary, merges, special tokens and chat template.

GGUF names how a text is split before merging instead of describing it (`tokenizer.ggml.pre`), so only tokenizers with
a name can be stored. A SentencePiece-style tokenizer merges by score; here a token's score is the negative
rank of the first merge that makes it, which gives the same order.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerBase
from transformers.integrations.gguf import gguf_tokenizer_mapping as known

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _

SPLITS = {known.GGUF_PRE_TOKENIZER_SPLITS[name]: name for name in ("gpt-4o", "qwen35", "qwen2", "tekken", "llama-bpe")}
"""Names by the regular expression of a byte-level tokenizer."""
SPACE = "▁"
LEAST_SCORE = -1e6
"""Score of tokens that no merge produces."""


class Vocabulary(NamedTuple):
    tokens: list[str]
    types: list[TokenType]


def describe(writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    """Write a tokenizer's description, for a model with `size` embeddings. Raises `RunFailed(bad_configuration)` if
    GGUF cannot describe it."""
    text = getattr(tokenizer, "backend_tokenizer", None)
    if text is None:
        raise _refused(_("it has no tokenizer.json"))
    description = json.loads(text.to_str())
    model = description["model"]
    if model["type"] != "BPE":
        raise _refused(_("it is %(kind)s, and GGUF describes BPE for this family", kind=model["type"]))
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    byte_level = any(step["type"] == "ByteLevel" for step in _steps(description["pre_tokenizer"]))
    vocabulary = _vocabulary(description, tokenizer, size, byte_level)
    writer.add_tokenizer_model("gpt2" if byte_level else "llama")
    writer.add_tokenizer_pre(_split(description["pre_tokenizer"]) if byte_level else "default")
    writer.add_token_list(vocabulary.tokens)
    if not byte_level:
        writer.add_token_scores(_scores(vocabulary.tokens, merges))
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_add_space_prefix(not byte_level and _prepends(description))
    _special(writer, tokenizer)


def _special(writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase) -> None:
    for token, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if token is not None:
            add(int(token))
    ids: Any = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id)
    if isinstance(template := getattr(tokenizer, "chat_template", None), str):
        writer.add_chat_template(template)


def _vocabulary(
    description: dict[str, Any], tokenizer: PreTrainedTokenizerBase, size: int, byte_level: bool
) -> Vocabulary:
    known_tokens: dict[int, str] = {i: token for token, i in description["model"]["vocab"].items()}
    types = dict.fromkeys(known_tokens, TokenType.NORMAL)
    if not byte_level:
        types |= {i: TokenType.BYTE for i, token in known_tokens.items() if _is_byte(token)}
    for added in description["added_tokens"]:
        known_tokens[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    if not byte_level and tokenizer.unk_token_id is not None:
        types[int(tokenizer.unk_token_id)] = TokenType.UNKNOWN
    if max(known_tokens, default=0) >= size:
        why = _("it has %(tokens)s tokens, and the model %(size)s", tokens=max(known_tokens) + 1, size=size)
        raise _refused(why)
    tokens = [known_tokens.get(i, f"[PAD{i}]") for i in range(size)]
    return Vocabulary(tokens, [types.get(i, TokenType.UNUSED) for i in range(size)])


def _is_byte(token: str) -> bool:
    """Whether a token is a byte such as `<0x0A>`, which spells text that has no token."""
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    return [-float(ranks[token]) if token in ranks else LEAST_SCORE for token in tokens]


def _split(pre_tokenizer: dict[str, Any]) -> str:
    """GGUF's name for how a byte-level tokenizer splits a text."""
    steps = list(_steps(pre_tokenizer))
    kinds = [step["type"] for step in steps]
    if any(step.get("add_prefix_space") for step in steps):
        raise _refused(_("it begins each text with a space"))
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1].get("use_regex", True):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and (name := SPLITS.get(steps[0]["pattern"].get("Regex", ""))):
        return name
    raise _refused(_("GGUF has no name for how it splits a text"))


def _steps(pre_tokenizer: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if pre_tokenizer is None:
        return
    if pre_tokenizer["type"] == "Sequence":
        for step in pre_tokenizer["pretokenizers"]:
            yield from _steps(step)
    else:
        yield pre_tokenizer


def _prepends(description: dict[str, Any]) -> bool:
    """It begins a text with a space, as SentencePiece does for Llama and not for Gemma."""
    normalizer = description["normalizer"] or {}
    parts = normalizer.get("normalizers", [normalizer])
    if any(part.get("type") == "Prepend" and part.get("prepend") == SPACE for part in parts):
        return True
    steps = _steps(description["pre_tokenizer"])
    return any(step["type"] == "Metaspace" and step.get("prepend_scheme") != "never" for step in steps)


def _refused(why: Message) -> RunFailed:
    text = _("The tokenizer cannot be written as GGUF: %(why)s. Choose merged-bfloat16.", why=why)
    return RunFailed(FailureCode.BAD_CONFIGURATION, text)
