"""The plain records that cross borders, in the order in which a request meets them.

    Request ──add──▶ Sequence(s) ──plan──▶ StepPlan ──run──▶ StepResult ──commit──▶ Output

`Request`, `Output` and what they hold are msgspec structs: they also travel between the server's
process and the engine's. A `Sequence` is the scheduler's own mutable state and never leaves it;
a `StepPlan` tells the runner what has changed since the plan before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from pellucid.errors import InputError

MAX_CHOICES = 128
MAX_STOPS = 32
MAX_STOP_CHARS = 1024
"""Of one stop string; whoever sends a longer one has sent the wrong thing."""
MAX_LOGPROBS = 100
MAX_EDITED = 1024
"""Tokens in `logit_bias`, and in `stop_token_ids` beside a `min_tokens`, together."""
MAX_EDITS = MAX_EDITED + 64
"""The same with a model's own end tokens."""

FinishReason = Literal["stop", "length", "abort", "error"]


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to choose the next token, and when to stop. Bad values raise `InputError`."""

    max_tokens: int | None = None
    """New tokens at most; None: until the context is full."""
    min_tokens: int = 0
    """End-of-sequence and stop tokens are impossible before this many new tokens."""
    temperature: float = 1.0
    """Logits are divided by it; 0 takes the most likely token (greedy)."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 or -1: all."""
    top_p: float = 1.0
    """Keep the fewest most likely tokens whose probabilities add up to this."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as likely as the most likely one."""
    repetition_penalty: float = 1.0
    """Logits of tokens seen in prompt or answer are divided (if positive) or multiplied by it."""
    presence_penalty: float = 0.0
    """Subtracted once from the logit of each token already in the answer."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time it is in the answer."""
    logit_bias: dict[int, float] = {}
    """Added to the logits of these token ids."""
    seed: int | None = None
    """The same seed draws by the same numbers, whatever else is in the batch; None or -1: a fresh
    one. So the tokens are the same as far as the logits are. With the engine's `batch_invariant`
    these are the same to the bit. Without it a product of matrices may round differently in another
    batch, and tokens that are almost equally likely may change places: in float32 seldom, in
    bfloat16 and float16 more often."""
    n: int = 1
    """Independent answers to the prompt."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are cut off. Names of special tokens are found too, though
    the text does not show them."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end the answer, besides the model's own."""
    ignore_eos: bool = False
    """Go on past the model's end-of-sequence tokens."""
    skip_special_tokens: bool = True
    """Leave special tokens out of the text."""
    logprobs: int | None = None
    """Log-probabilities of the chosen tokens and of this many most likely ones; None: none."""
    prompt_logprobs: int | None = None
    """The same for the tokens of the prompt."""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            msgspec.structs.force_setattr(self, "stop", (self.stop,))
        for name in ("top_k", "seed"):
            if getattr(self, name) == -1:  # how many clients write "all", and "a fresh one"
                msgspec.structs.force_setattr(self, name, 0 if name == "top_k" else None)
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            kind, what = ((int, float), "number") if name in _FLOATS else (int, "whole number")
            if isinstance(value, bool) or not isinstance(value, kind):
                raise InputError(f"{name} must be a {what}, not {value!r}", param=name)
            if not (low <= value <= high) or value != value:  # (NaN)
                raise InputError(f"{name} must be {_span(low, high)}, not {value!r}", param=name)
            if name in _COUNTS and value > _MANY:
                msgspec.structs.force_setattr(self, name, _MANY)
        if self.repetition_penalty == 0:
            raise InputError(
                "repetition_penalty must be above 0; 1 turns it off", param="repetition_penalty"
            )
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InputError(
                f"min_tokens ({self.min_tokens}) must not be above max_tokens ({self.max_tokens})",
                param="min_tokens",
            )
        if len(self.stop) > MAX_STOPS:
            raise InputError(
                f"stop takes at most {MAX_STOPS} strings, not {len(self.stop)}", param="stop"
            )
        if not all(isinstance(text, str) and text for text in self.stop):
            raise InputError("stop strings must be non-empty text", param="stop")
        if (longest := max(map(len, self.stop), default=0)) > MAX_STOP_CHARS:
            raise InputError(
                f"a stop string has at most {MAX_STOP_CHARS} characters, not {longest}",
                param="stop",
            )
        for token in self.stop_token_ids:
            if type(token) is not int or not 0 <= token <= _MANY:
                raise InputError(
                    f"stop_token_ids must be token ids, not {token!r}", param="stop_token_ids"
                )
        edited = len(self.logit_bias) + len(self.stop_token_ids) * (self.min_tokens > 0)
        if edited > MAX_EDITED:
            raise InputError(
                f"logit_bias, and stop_token_ids beside min_tokens, take at most {MAX_EDITED} "
                f"tokens together, not {edited}",
                param="logit_bias" if self.logit_bias else "stop_token_ids",
            )
        for token, bias in self.logit_bias.items():
            if type(token) is not int or not 0 <= token <= _MANY or not -100 <= bias <= 100:
                raise InputError(
                    f"logit_bias maps token ids to numbers of -100 to 100, not {token!r}: {bias!r}",
                    param="logit_bias",
                )


_INT = 2**63 - 1
_MANY = 2**31 - 1
"""More tokens than any vocabulary or context has: what is above means the same, and fits."""
_COUNTS = frozenset({"max_tokens", "min_tokens", "top_k"})
_OPTIONAL = frozenset({"max_tokens", "seed", "logprobs", "prompt_logprobs"})
_FLOATS = frozenset(
    ["temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"]
)
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("max_tokens", 1, math.inf),
    ("min_tokens", 0, math.inf),
    ("temperature", 0, 100),
    ("top_k", 0, math.inf),
    ("top_p", 0, 1),
    ("min_p", 0, 1),
    ("repetition_penalty", 0, 100),
    ("presence_penalty", -2, 2),
    ("frequency_penalty", -2, 2),
    ("seed", -_INT, _INT),
    ("n", 1, MAX_CHOICES),
    ("logprobs", 0, MAX_LOGPROBS),
    ("prompt_logprobs", 0, MAX_LOGPROBS),
)


def _span(low: float, high: float) -> str:
    if high == _INT:
        return "an integer of 64 bits"
    return f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"


def looks_back(params: SamplingParams) -> bool:
    """Whether the choice of a token depends on the tokens before it (penalties)."""
    penalties = (params.presence_penalty, params.frequency_penalty)
    return params.repetition_penalty != 1 or any(penalties)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt with its sampling parameters; `params.n` answers come of it."""

    id: str
    prompt_token_ids: list[int]
    params: SamplingParams = SamplingParams()


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """Natural log-probability of a token under the model, before any sampling parameter."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]] = []
    """The most likely (token id, log-probability), best first; as many as were asked for."""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer cost, in seconds and tokens; given with its last `Output`."""

    num_prompt_tokens: int
    num_output_tokens: int
    queue_s: float
    """From arrival to the first step that computed anything for it."""
    first_token_s: float
    """From arrival to the first new token."""
    total_s: float
    """From arrival to the end."""
    num_preemptions: int
    """Times its blocks were taken away and its tokens computed anew."""


class Output(msgspec.Struct, kw_only=True, gc=False):
    """Tokens of one answer.

    From `step` and `stream`: what is new since the last one. From `generate` and `chat`: the whole.
    `prompt_token_ids` and `prompt_logprobs` come with the first of an answer, `finish_reason` and
    `stats` with the last.
    """

    request_id: str
    index: int = 0
    """Which of the request's `n` answers."""
    prompt_token_ids: list[int] = []
    token_ids: list[int] = []
    text: str = ""
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    """One entry per prompt token; the first is None, nothing predicts it."""
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    """The stop string or stop token id that ended the answer, if one of the request's own did."""
    error: str | None = None
    stats: Stats | None = None

    def extend(self, more: Output) -> None:
        """Append the next increment of the same answer."""
        self.token_ids += more.token_ids
        self.text += more.text
        if more.logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs += more.logprobs
        if more.prompt_token_ids:
            self.prompt_token_ids = more.prompt_token_ids
        if more.prompt_logprobs is not None:
            self.prompt_logprobs = more.prompt_logprobs
        self.finish_reason = more.finish_reason
        self.stop_reason = more.stop_reason
        self.error = more.error
        self.stats = more.stats


def raise_errors(outputs: list[Output]) -> list[Output]:
    """The outputs, if none of them ended by an error; otherwise `RuntimeError` with its reason.

    For whoever measures: the engine goes on after a failed step, and a figure made of answers that
    broke off would look like a fast one.
    """
    for output in outputs:
        if output.error is not None:
            raise RuntimeError(f"request {output.request_id} failed: {output.error}")
    return outputs


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine turned out to be, once it has loaded its model."""

    model: str
    context_length: int
    """Longest prompt plus answer, in tokens."""
    vocab_size: int
    block_size: int
    num_blocks: int
    device: str
    dtype: str
    switches: dict[str, str] = {}
    """Every row of the switchboard, and what it came to here."""
    obstacles: dict[str, dict[str, str]] = {}
    """Of every switch its values, each with why it cannot be had here; empty if it can."""
    batch_invariant: str = "off"
    """on: what a request gets does not depend, to the bit, on what else is in its batch."""
    why: dict[str, str] = {}
    """Of each switch and option, and of device, dtype, threads and sizes: the reason for its
    value."""
    eos_token_ids: tuple[int, ...] = ()
    device_name: str = ""
    """For people."""
    weight_bytes: int = 0
    """Of the matrices that a decode step reads."""
    head_bytes: int = 0
    """The part of them that is the LM head's."""
    kv_bytes_per_token: int = 0
    """Keys and values of all layers."""
    ledger: list[str] = []
    """Where the memory goes, a line each, ready to print."""
    start_s: dict[str, float] = {}
    """What each part of loading took, in the order of doing."""


class EngineStats(msgspec.Struct, kw_only=True):
    """The engine's state between two steps, for /health, /metrics and tests."""

    num_running: int = 0
    num_waiting: int = 0
    num_blocks: int = 0
    num_blocks_used: int = 0
    num_preemptions: int = 0
    num_steps: int = 0
    num_computed_tokens: int = 0
    num_output_tokens: int = 0


UNKNOWN = -1
"""Stands in a row for the token that a step in flight is about to sample."""


@dataclass(frozen=True, slots=True)
class SequenceStart:
    """What the runner learns once of a sequence, with the sequence's first row."""

    seq_id: int
    params: SamplingParams
    seed: int
    num_prompt: int
    num_known: int
    """Tokens that the host knows by now: the prompt, and the answer so far after a preemption."""
    tokens: list[int] = field(default_factory=list)
    """Those tokens, if the choice of the next one depends on them (penalties); otherwise none."""


@dataclass(slots=True)
class Row:
    """One sequence's share of a step: compute `tokens`, the first of which stands at `start`.

    A prefill chunk, a decode step and the verification of drafts differ only in `len(tokens)` and
    `num_logits`. A row carries what is new, and the runner keeps the rest: it lends no list that
    the scheduler goes on changing.
    """

    seq_id: int
    tokens: list[int]
    """The last may be `UNKNOWN`: then it is what the sequence's previous row sampled."""
    start: int
    """Position of `tokens[0]`; the keys and values of 0..start-1 are stored already."""
    new_blocks: list[int]
    """Blocks appended to the sequence's table since its last row; the whole table if
    `table_version` is not that of the last row."""
    table_version: int
    """Counts the table's changes that were no appends."""
    num_logits: int
    """Of so many of the last tokens the logits are wanted, to choose a token from each: 0 for a
    chunk that does not end the prompt, 1 to decode, 1 + k to verify k drafts."""
    targets: list[int] = field(default_factory=list)
    """Prompt tokens that follow these and whose log-probabilities are wanted."""

    @property
    def end(self) -> int:
        """Position after the row's tokens: the one that a sampled token will take."""
        return self.start + len(self.tokens)

    @property
    def ends_unknown(self) -> bool:
        """Whether the last token is what the sequence sampled last, unseen by the host."""
        return self.tokens[-1] == UNKNOWN

    @property
    def samples(self) -> bool:
        """Whether a token is chosen after these."""
        return self.num_logits > 0


@dataclass(slots=True)
class StepPlan:
    """Scheduler → runner: what one step computes."""

    rows: list[Row] = field(default_factory=list)
    starts: list[SequenceStart] = field(default_factory=list)
    """Sequences whose first row is in this plan."""
    left: list[int] = field(default_factory=list)
    """Ids of sequences that have ended, were aborted or gave way since the last plan."""

    @property
    def num_tokens(self) -> int:
        return sum(len(row.tokens) for row in self.rows)


@dataclass(slots=True)
class RowResult:
    """What a step found for one row."""

    tokens: list[int] = field(default_factory=list)
    """The chosen tokens, in order; none for a row without logits. The sequence may end at any."""
    scores: list[TokenLogprob] | None = None
    """One for each of `tokens`, if the request asks for log-probabilities."""
    prompt_scores: list[TokenLogprob] | None = None
    """One for each of the row's `targets`."""
    error: str = ""
    """Why no token could be chosen."""


@dataclass(slots=True)
class StepResult:
    """Runner → scheduler: one entry per row of the plan, in its order."""

    rows: list[RowResult]


def to_builtins(record: Any) -> Any:
    """A record as dicts and lists, ready for `json.dumps`."""
    return msgspec.to_builtins(record)
