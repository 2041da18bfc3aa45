"""An engine without a model: deterministic tokens, the real contract, faults on demand.

Answer `k` of a request counts through the alphabet from letter `k` on and ends by itself after 40
letters. A prompt that begins with one of the words of `FAULTS` misbehaves in that way.
"""

from __future__ import annotations

import os
import string
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.events import PoolState
from pellucid.facts import MachineFacts
from pellucid.model.spec import ModelSpec
from pellucid.request import (
    EngineInfo,
    EngineStats,
    Output,
    Request,
    SamplingParams,
    Stats,
    TokenLogprob,
)
from pellucid.resolve import Resolved, resolve
from pellucid.switching import obstacles, switched
from pellucid.trace import NullTrace, Trace

BOS, EOS, PAD, ODD = 256, 257, 258, 259
SPECIALS = {BOS: "<bos>", EOS: "<eos>", PAD: "<pad>"}
VOCAB_SIZE = 260
CONTEXT_LENGTH = 2048
BLOCK_SIZE = 16
NUM_BLOCKS = 512
OWN_END = 40
FAULTS = ("CRASH", "EXIT", "STUCK", "ERROR", "SLOW")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}{% if m.name %}={{ m.name }}{% endif %}]"
    "{% if m.reasoning_content %}<{{ m.reasoning_content }}|{{ m.reasoning }}>{% endif %}"
    "{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    "{% if mood is defined %}({{ mood }}){% endif %}"
    "{% if reasoning_effort is defined %}(thinks {{ reasoning_effort }}){% endif %}"
)


SPEC = ModelSpec(
    family="llama",
    vocab_size=VOCAB_SIZE,
    hidden_size=8,
    intermediate_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    context_length=CONTEXT_LENGTH,
    norm_eps=1e-5,
    rope_theta=1e4,
)


class FakeTokenizer:
    """A token is a byte; three are special, and one is a piece of a longer character."""

    bos_token_id = BOS
    eos_token_ids = (EOS,)
    pad_token_id = PAD
    chat_template = TEMPLATE
    vocab_size = VOCAB_SIZE
    parsed_names: ClassVar[dict[str, int]] = {name: token for token, name in SPECIALS.items()}
    roles: ClassVar[dict[str, str]] = {"bos_token": SPECIALS[BOS], "eos_token": SPECIALS[EOS]}

    def encode_marked(self, text: str, mark: str) -> list[int]:
        ids, marked = self.encode(text, add_special_tokens=False), list(mark.encode())
        size = len(marked)
        places = [i for i in range(len(ids)) if ids[i : i + size] == marked]
        return [t for i, t in enumerate(ids) if not any(p <= i < p + size for p in places)]

    def encode(
        self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[int]:
        if parse_special:
            for token, name in SPECIALS.items():
                if name in text:
                    before, after = text.split(name, 1)
                    ends = [
                        self.encode(end, add_special_tokens=False, parse_special=True)
                        for end in (before, after)
                    ]
                    return [BOS] * add_special_tokens + [*ends[0], token, *ends[1]]
        return [BOS] * add_special_tokens + list(text.encode())

    def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
        kept = [i for i in ids if not (skip_special_tokens and i in SPECIALS)]
        return b"".join(map(self.token_bytes, kept)).decode(errors="replace")

    def is_special(self, token: int) -> bool:
        return token in SPECIALS

    def token_bytes(self, token: int) -> bytes:
        if token == ODD:
            return "é".encode()[:1]
        return SPECIALS[token].encode() if token in SPECIALS else bytes([token])

    def token_text(self, token: int) -> str:
        return self.token_bytes(token).decode(errors="replace")


@dataclass
class Answer:
    """One sequence: its outputs, made as they are asked for."""

    request: Request
    index: int
    outputs: Iterator[Output]
    num_tokens: int


def resolved(config: EngineConfig) -> Resolved:
    return resolve(config, SPEC, MachineFacts())


def described(config: EngineConfig) -> EngineInfo:
    """What the fake comes to on a machine that has nothing."""
    found = resolved(config)
    return EngineInfo(
        model="fake",
        context_length=CONTEXT_LENGTH,
        vocab_size=VOCAB_SIZE,
        block_size=BLOCK_SIZE,
        num_blocks=NUM_BLOCKS,
        device="cpu",
        dtype="float32",
        switches=found.switches,
        obstacles=obstacles(config, found.switches, resolved),
        why=dict(found.why),
        device_name="a fake",
        ledger=["weights 0 GiB"],
    )


class FakeEngine:
    def __init__(self, *, step_s: float = 0.0, max_open: int = 64) -> None:
        self.config = EngineConfig()
        self.info = described(self.config)
        self.step_s = step_s
        self.max_open = max_open
        self.requests: list[Request] = []
        self.aborted: list[str] = []
        self.answers: list[Answer] = []
        self.trace: Trace = NullTrace()

    def watch(self) -> PoolState:
        """The fake has no blocks of its own to tell of; see traced_engine."""
        return PoolState(
            id=0, step=0, ns=0, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE, sequences=[]
        )

    def unwatch(self) -> None:
        self.trace = NullTrace()

    def add(self, request: Request) -> None:
        params = request.params
        num_prompt = len(request.prompt_token_ids)
        if not num_prompt:
            raise InputError("the prompt is empty", param="prompt")
        if num_prompt + (params.max_tokens or 1) > CONTEXT_LENGTH:
            raise InputError(
                f"The prompt is too long: this model's maximum context length is {CONTEXT_LENGTH} "
                f"tokens, but the prompt has {num_prompt}",
                param="prompt",
                code="context_length_exceeded",
            )
        if len(self.answers) + params.n > self.max_open:
            raise InputError(f"{len(self.answers)} are waiting", code="overloaded")
        self.requests.append(request)
        for index in range(params.n):
            self.answers.append(Answer(request, index, play(request, index), num_prompt))

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)
        self.answers = [a for a in self.answers if a.request.id != request_id]

    def switch(self, **choices: Any) -> EngineInfo:
        config = switched(self.config, choices)
        self.info, self.config = described(config), config
        return self.info

    @property
    def has_work(self) -> bool:
        return bool(self.answers)

    def prepare(self) -> bool:
        return False

    def step(self) -> list[Output]:
        if self.step_s:
            time.sleep(self.step_s)
        outputs = []
        for answer in list(self.answers):
            output = next(answer.outputs)
            answer.num_tokens += len(output.token_ids)
            outputs.append(output)
            if output.finish_reason:
                self.answers.remove(answer)
        return outputs

    def stats(self) -> EngineStats:
        used = sum(-(-answer.num_tokens // BLOCK_SIZE) for answer in self.answers)
        return EngineStats(
            num_running=len(self.answers), num_blocks=NUM_BLOCKS, num_blocks_used=used
        )


def fake_measure(
    engine: FakeEngine,
    settings: dict[str, Any],
    report: Any,
    listen: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Made-up times of the right shape: attention is a tenth of a step at 256 tokens."""
    from pellucid.explore import runfile  # numpy's threads spin for a moment when they begin

    lengths, blocks = settings["lengths"], settings.get("blocks", 2)
    if max(lengths) > CONTEXT_LENGTH:
        raise InputError(f"length {max(lengths)} is beyond the context", param="lengths")
    report("warm-up", 0, 1, "warming up")
    report("measure", 0, 2.5, "2 blocks: about 3 s")
    for number in range(settings.get("max_seconds", 0) == 0.5 and 500):  # until it is stopped
        time.sleep(0.01)
        report("measure", number, 500, "")
    cells = []
    for length in lengths:
        stages = {"attention": [length * 100] * blocks, "other": [230_400] * blocks}
        walls = [sum(times) for times in zip(*stages.values(), strict=True)]
        cells.append(
            {"phase": "decode", "length": length, "batch": 1, "num_steps": 2}
            | {"wall_ns": walls, "timed_wall_ns": walls, "stages_ns": stages}
        )
    file = runfile.seal(
        {
            "environment": {"date": "2026-01-02T03:04:05", "cpu": "a fake", "commit": ""},
            "model": {"name": "fake", "spec": asdict(SPEC)},
            "engine": {"device": "cpu"},
            "config": {},
            "weight_bytes": 1,
            "kv_bytes_per_token": 1,
            "limits": {},
            "settings": settings,
            "cells": cells,
            "closure": 0.0,
            "instrument_ratio": 1.0,
            "worst_instrument_ratio": 1.0,
            "interrupted": False,
        }
    )
    report("measure", 2.5, 2.5, "", cells[0])
    against = settings.get("against")
    if not against:
        return file, None
    content = {key: value for key, value in file.items() if key not in ("id", "schema")}
    engine_ = {**file["engine"], "switches": against}
    return file, runfile.seal({**content, "engine": engine_})


def fake_look(engine: FakeEngine, wish: dict[str, Any]) -> dict[str, Any]:
    """The wish itself; a text that begins with REFUSE or BREAK is refused, or breaks."""
    text = bytes(t for t in wish["token_ids"] if t < 256)
    if text.startswith(b"REFUSE"):
        raise InputError("the fake refuses", param="text")
    if text.startswith(b"BREAK"):
        raise RuntimeError("the fake broke")
    return {"wish": wish}


def letters(index: int, count: int) -> str:
    """What answer `index` says, if nothing stops it."""
    alphabet = string.ascii_lowercase
    return "".join(alphabet[(index + k) % 26] for k in range(count))


def play(request: Request, index: int) -> Iterator[Output]:
    """The increments of one answer, one token each."""
    params, prompt = request.params, request.prompt_token_ids
    fault = misbehave(bytes(t for t in prompt if t < 256), request, index)
    most = params.max_tokens or CONTEXT_LENGTH - len(prompt)
    own_end = most if params.ignore_eos else max(OWN_END, params.min_tokens)
    text, reason, stop = letters(index, min(most, own_end)), "length", None
    if own_end < most:
        reason = "stop"
    cuts: list[tuple[int, str | int]] = [(text.find(s), s) for s in params.stop if s in text]
    cuts += [(text.find(chr(t)), t) for t in params.stop_token_ids if chr(t) in text]
    shown = text
    if cuts:
        at, stop = min(cuts, key=lambda cut: cut[0])
        reason, shown = "stop", text[:at]
        text = text[: at + (len(stop) if isinstance(stop, str) else 1)]
    for k, letter in enumerate(text):
        for output in fault:
            yield output
            break
        last = k == len(text) - 1
        yield Output(
            request_id=request.id,
            index=index,
            prompt_token_ids=prompt if k == 0 else [],
            token_ids=[ord(letter)],
            text=letter if k < len(shown) else "",
            logprobs=None if params.logprobs is None else [scored(ord(letter), k, params.logprobs)],
            prompt_logprobs=score_prompt(prompt, params) if k == 0 else None,
            finish_reason=reason if last else None,  # type: ignore[arg-type]
            stop_reason=stop if last else None,
            stats=stats_of(len(prompt), len(text)) if last else None,
        )


def misbehave(prompt: bytes, request: Request, index: int) -> Iterator[Output]:
    """Do what the prompt's first word says, once per token."""
    word = next((w for w in FAULTS if w.encode() in prompt), "")
    while word:
        if word == "CRASH":
            raise RuntimeError("the fake engine crashed as it was told")
        if word == "EXIT":
            print("fake: Segmentation fault", file=sys.stderr, flush=True)
            os._exit(7)
        if word == "ERROR":
            yield Output(
                request_id=request.id, index=index, finish_reason="error", error="numbers went bad"
            )
        time.sleep(30 if word == "STUCK" else 0.02)
        yield Output(request_id=request.id, index=index)


def scored(token: int, k: int, num_top: int) -> TokenLogprob:
    """The chosen token is the likeliest for even k, and not among the first three for odd k."""
    chosen = -0.25 - k / 100 if k % 2 == 0 else -7.5
    others = [(ord("A") + i, -0.5 - i) for i in range(num_top)]
    best = sorted([*others, (token, chosen)], key=lambda pair: -pair[1])
    return TokenLogprob(token, chosen, best[:num_top])


def score_prompt(prompt: list[int], params: SamplingParams) -> list[TokenLogprob | None] | None:
    if params.prompt_logprobs is None:
        return None
    return [None, *(scored(t, i, params.prompt_logprobs) for i, t in enumerate(prompt[1:]))]


def stats_of(num_prompt: int, num_output: int) -> Stats:
    return Stats(
        num_prompt_tokens=num_prompt,
        num_output_tokens=num_output,
        queue_s=0.0,
        first_token_s=0.0,
        total_s=0.0,
        num_preemptions=0,
    )
