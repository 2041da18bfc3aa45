"""A vocabulary from the metadata of a GGUF file, by llama.cpp's rules.

    tokenizer.ggml.model        gpt2 (byte-level BPE) or llama (SentencePiece BPE)
    tokenizer.ggml.tokens       texts, by id
    tokenizer.ggml.token_type   1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
    tokenizer.ggml.merges       gpt2: rules, best first        tokenizer.ggml.scores   llama
    tokenizer.ggml.pre          gpt2: name of the way text is cut into words
    tokenizer.ggml.*_token_id, add_bos_token, add_eos_token, add_space_prefix

In a text, names of user-defined tokens are those tokens always, names of control and unknown tokens
only where special tokens are asked for. A few names count as control whatever their type says,
because converters have mistyped them; the list is llama.cpp's, and it does catch Gemma's HTML tag
`</s>`, which is text there: ids must agree with what others compute for the same file. For
*decoding* only declared types and the end-of-turn names count, so that `</s>` in an answer shows.

Source: `llama_vocab::impl::load` and `tokenize` in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pellucid.errors import ModelError
from pellucid.text.bytelevel import ByteLevelMerger, bytes_of, pre_of
from pellucid.text.codec import END_OF_TURN, Codec, unique
from pellucid.text.specials import SpecialTokens
from pellucid.text.spm import SPACE, SpmMerger

UNKNOWN_TOKEN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6
HIDDEN = frozenset({UNKNOWN_TOKEN, CONTROL, UNUSED})

CONTROL_NAMES = END_OF_TURN | set(
    """
    </s> <eos> <EOT> _<EOT> [EOT] [EOS] <|return|> <|call|> <end_of_utterance>
    <｜end▁of▁sentence｜>
    <|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE>
    <|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF>
    <|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID>
    <|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]
    <|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame> <|file_sep|>
    """.split()  # noqa: SIM905 (a list of 40 lines)
)


class Metadata:
    """The `tokenizer.ggml.` keys, checked as they are read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.tokens: list[str] = self.array("tokens", str)
        self.types: list[int] = self.array("token_type", int, [1] * len(self.tokens))

    def value(self, key: str, kind: type, default: Any) -> Any:
        found = self._values.get(f"tokenizer.ggml.{key}", default)
        if found is not default and not isinstance(found, kind):
            raise ModelError(
                f"tokenizer.ggml.{key} must be of type {kind.__name__}, not {found!r}; "
                "convert the model again"
            )
        return found

    def array(self, key: str, kind: type, default: list[Any] | None = None) -> list[Any]:
        found = self._values.get(f"tokenizer.ggml.{key}", default)
        if found is None:
            raise ModelError(
                f"tokenizer.ggml.{key} is missing: the file has no complete tokenizer; "
                "use a file that has one"
            )
        if not isinstance(found, list) or not all(map(kind.__instancecheck__, found)):
            raise ModelError(f"tokenizer.ggml.{key} must be a list of {kind.__name__}")
        return found

    def token(self, key: str, default: int | None = None) -> int | None:
        """A token id. Out of range counts as absent, as in llama.cpp."""
        found: int | None = self.value(f"{key}_token_id", int, None)
        for token in (found, default):
            if token is not None and 0 <= token < len(self.tokens):
                return token
        return None

    @property
    def template(self) -> str | None:
        template = self._values.get("tokenizer.chat_template")
        return template if isinstance(template, str) and template else None


Merger = Callable[[str], list[int]]


def gguf_codec(values: Mapping[str, Any]) -> Codec:
    model = values.get("tokenizer.ggml.model")
    builders = {"gpt2": byte_level, "llama": sentencepiece}
    if not isinstance(model, str) or model not in builders:
        raise ModelError(
            f"tokenizer.ggml.model {model!r} is not supported; supported are: "
            f"{', '.join(builders)}. Use a file of a Llama, Qwen, Mistral or Gemma 3 model"
        )
    data = Metadata(values)
    if len(data.types) != len(data.tokens):
        raise ModelError(
            f"tokenizer.ggml.token_type has {len(data.types)} entries for {len(data.tokens)} tokens"
        )
    return builders[model](data)


def byte_level(data: Metadata) -> Codec:
    pre = pre_of(data.value("pre", str, "default"))
    merger = ByteLevelMerger(data.tokens, data.array("merges", str), pre)

    def piece(token: int) -> bytes:
        return bytes_of(data.tokens[token])

    return codec(data, merger.encode, piece, add_bos=pre.add_bos)


def sentencepiece(data: Metadata) -> Codec:
    scores = data.array("scores", float)
    if len(scores) != len(data.tokens):
        raise ModelError(
            f"tokenizer.ggml.scores has {len(scores)} entries for {len(data.tokens)} tokens"
        )
    unknown = data.token("unknown", 0)
    merger = SpmMerger(data.tokens, scores, unknown)

    def piece(token: int) -> bytes:
        return data.tokens[token].replace(SPACE, " ").encode()

    space = data.value("add_space_prefix", bool, True)
    return codec(data, merger.encode, piece, add_bos=True, space=space, bos=1, eos=2, unk=0)


def codec(
    data: Metadata,
    merge: Merger,
    piece: Callable[[int], bytes],
    *,
    add_bos: bool,
    space: bool = False,
    bos: int | None = None,
    eos: int | None = None,
    unk: int | None = None,
) -> Codec:
    """What both kinds share. `bos`, `eos` and `unk` hold where the file names none."""
    bos, eos, unk = data.token("bos", bos), data.token("eos", eos), data.token("unknown", unk)
    always, asked = special_tokens(data)
    ends = [token for token, text in enumerate(data.tokens) if text in END_OF_TURN]
    return Codec(
        vocab_size=len(data.tokens),
        encode=partial(encode, merge, SpecialTokens(always), SpecialTokens(always | asked), space),
        piece=partial(piece_of, data, piece),
        leading_space=space,
        special=frozenset(
            [token for token, kind in enumerate(data.types) if kind in HIDDEN] + ends
        ),
        bos_token_id=bos,
        eos_token_ids=unique([eos, data.token("eot"), data.token("eom"), *ends]),
        pad_token_id=data.token("padding"),
        unk_token_id=unk,
        prefix=frame(data, "bos", bos, add_bos),
        suffix=frame(data, "eos", eos, False),
        chat_template=data.template,
        parsed_names=asked,
        roles=roles(data, bos=bos, eos=eos, unk=unk),
    )


def roles(data: Metadata, **known: int | None) -> dict[str, str]:
    """What a chat template knows tokens by."""
    named = {"pad": "padding", "sep": "seperator", "cls": "cls", "mask": "mask"}  # (its spelling)
    ids = known | {role: data.token(key) for role, key in named.items()}
    return {f"{role}_token": data.tokens[token] for role, token in ids.items() if token is not None}


def special_tokens(data: Metadata) -> tuple[dict[str, int], dict[str, int]]:
    """Names that count always, and names that count only when special tokens are parsed."""
    always: dict[str, int] = {}
    asked: dict[str, int] = {}
    for token, (text, kind) in enumerate(zip(data.tokens, data.types, strict=True)):
        if kind in (CONTROL, UNKNOWN_TOKEN) or text in CONTROL_NAMES:
            asked[text] = token
        elif kind == USER_DEFINED:
            always[text] = token
    return always, asked


def encode(
    merge: Merger,
    always: SpecialTokens,
    every: SpecialTokens,
    space: bool,
    text: str,
    parse_special: bool,
    mark: str = "",
) -> list[int]:
    ids: list[int] = []
    for part in (every if parse_special else always).split(text):
        if isinstance(part, int):
            ids.append(part)
        else:
            part = part.replace(mark, "") if mark else part
            # A piece stands at the beginning or after a special token: both take the space.
            ids += merge(" " + part if space else part)
    return ids


def piece_of(data: Metadata, ordinary: Callable[[int], bytes], token: int) -> bytes:
    if not 0 <= token < len(data.tokens):
        return b""
    text, kind = data.tokens[token], data.types[token]
    if kind == BYTE:
        return byte_of(text)
    if kind in HIDDEN or kind == USER_DEFINED:
        return text.encode()
    return ordinary(token)


def byte_of(text: str) -> bytes:
    """`<0x0A>` → the byte 10."""
    try:
        return bytes([int(text[3:5], 16)])
    except ValueError:
        raise ModelError(f"byte token {text!r} is not of the form <0x0A>; convert again") from None


def frame(data: Metadata, which: str, token: int | None, default: bool) -> tuple[int, ...]:
    """BOS or EOS, if a text is to have it."""
    if not data.value(f"add_{which}_token", bool, default):
        return ()
    if token is None:
        raise ModelError(
            f"tokenizer.ggml.add_{which}_token is true, but {which}_token_id is missing"
        )
    return (token,)
