"""Byte-level BPE from a GGUF file, built with the `tokenizers` library.

Bytes are the alphabet, so every text can be spelled and there is no unknown token. (Nearly every:
SmolLM2's vocabulary lacks a few bytes, such as the control character 0x04. They are left out of the
ids, as in llama.cpp and `transformers`.) In the file each byte is written as one printable
character, space as Ġ, newline as Ċ; merges are rules in order of preference.

Text is cut into words first, and merges never cross a word. This cut, a regular expression, is what
models differ in, and a GGUF file says it only by name (`tokenizer.ggml.pre`).
Several expressions in a row each cut what the one before left in one piece; what an expression
does not match stays as it is.

Sources: Radford et al. 2019 (GPT-2); tokenizer.json of the models; the names are llama.cpp's. Where
that writes an expression more coarsely than the model's own tokenizer (tekken), this has the
model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as InTurn

from pellucid.errors import ModelError, one_line


def byte_letters() -> dict[str, int]:
    """Printable character → the byte that it stands for.

    Bytes that are printable in Latin-1 stand for themselves, the others follow from U+0100 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(256) if value not in shown]
    letters = {chr(value): value for value in shown}
    return letters | {chr(0x100 + place): value for place, value in enumerate(hidden)}


BYTE_OF = byte_letters()


def bytes_of(text: str) -> bytes:
    """The bytes of an ordinary token as it is written in the file."""
    try:
        return bytes([BYTE_OF[letter] for letter in text])
    except KeyError:  # not in the alphabet: a name that the converter has left as it is
        return text.encode()


_CONTRACTION = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_MODERN = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES
_LLAMA3 = _MODERN % "{1,3}"
_QWEN2 = _MODERN % ""
_QWEN35 = (
    _CONTRACTION
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
    + _SPACES
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACES
)


@dataclass(frozen=True, slots=True)
class Pre:
    """One way of cutting text into words, with what the name says besides."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    """A word that is a token is that token, whatever the merges would make of it."""
    add_bos: bool = False
    """A text begins with BOS unless the file says otherwise."""


_BY_NAMES: Mapping[str, Pre] = {
    "default": Pre((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
    "gpt-2 phi-2 olmo mpt mellum exaone4 trillion": Pre((_GPT2,)),
    "smollm starcoder refact command-r codeshell exaone minerva-7b": Pre((r"\p{N}", _GPT2)),
    "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2": Pre(
        (_LLAMA3,), True, True
    ),
    "dbrx smaug-bpe chatglm-bpe glm4": Pre((_LLAMA3,)),
    "qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan solar-open": Pre((_QWEN2,)),
    "qwen35": Pre((_QWEN35,)),
    "tekken": Pre((_TEKKEN,), True, True),
}
PRETOKENIZERS = {name: pre for names, pre in _BY_NAMES.items() for name in names.split()}


def pre_of(name: str) -> Pre:
    try:
        return PRETOKENIZERS[name]
    except KeyError:
        raise ModelError(
            f"tokenizer.ggml.pre {name!r} is not known; known are: "
            f"{', '.join(sorted(PRETOKENIZERS))}. A folder with tokenizer.json needs no such name"
        ) from None


class ByteLevelMerger:
    """Turns text without special tokens into ids. Thread-safe."""

    def __init__(self, tokens: Sequence[str], merges: Sequence[str], pre: Pre) -> None:
        vocab = {text: token for token, text in enumerate(tokens)}
        try:
            model = BPE(vocab, [_pair(rule) for rule in merges], ignore_merges=pre.ignore_merges)
        except Exception as error:  # the library raises plain Exception
            raise ModelError(
                f"tokenizer.ggml.merges do not fit the tokens: {one_line(error)}"
            ) from error
        self._library = Tokenizer(model)
        cuts: list[PreTokenizer] = [Split(Regex(p), "isolated") for p in pre.patterns]
        self._library.pre_tokenizer = InTurn(
            [*cuts, ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    def encode(self, text: str) -> list[int]:
        # The batch form lets go of the interpreter lock, and does not track offsets.
        return self._library.encode_batch_fast([text], add_special_tokens=False)[0].ids


def _pair(rule: str) -> tuple[str, str]:
    # The first half may itself be a space in tokenizers that do not write it as Ġ.
    at = rule.find(" ", 1)
    if at < 0:
        raise ModelError(f"tokenizer.ggml.merges holds {rule!r}, which is no pair; convert again")
    return rule[:at], rule[at + 1 :]
