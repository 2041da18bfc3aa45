"""What the routes share: the model's names and tokenizer, the link to the engine, the limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from pellucid.errors import InputError
from pellucid.model.spec import ModelSpec
from pellucid.request import EngineInfo, SamplingParams
from pellucid.server.http import read_body, understood
from pellucid.server.runs import Fits, Runs
from pellucid.server.supervisor import Supervisor
from pellucid.server.watchers import Watchers
from pellucid.text.tokenizer import Tokenizer

MAX_BODY = 8 << 20
KEEP_ALIVE_S = 15.0
SHORT_BODY = 16_384
"""Bytes of a body that may be worked on between two events without anybody noticing: a few ms."""

MAX_TOKEN_CHARS = 256
"""No vocabulary has longer tokens: the longest known are runs of 128 spaces."""

T = TypeVar("T")


@dataclass(kw_only=True)
class Served:
    """One model, ready to answer."""

    engine: Supervisor
    tokenizer: Tokenizer | None
    names: Sequence[str]
    spec: ModelSpec
    max_body: int = MAX_BODY
    """Bytes of a request's body at most."""
    keep_alive_s: float = KEEP_ALIVE_S
    """Silence in a stream after which a comment is sent, so that proxies do not hang up."""
    runs: Runs = field(default_factory=Runs)
    """Measured here, and recorded elsewhere."""
    fits: Fits = field(default_factory=Fits)
    """Of runs, as far as they were asked for or recorded."""
    computing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while something is worked out from a run file."""
    drawing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while curves are worked out, which is a matter of a moment."""
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the engine's process is asked for a view of attention."""
    sampling_defaults: Mapping[str, float | int] = field(default_factory=dict)
    """The model's own, by names of `SamplingParams`: what a field that is not sent comes to."""
    fixed_switches: bool = False
    """Nobody may change switches while the server runs."""
    measures_itself: bool = True
    """Pages may have it measure while nobody wants anything else."""
    drop_tools: bool = False
    """Answer chats that bring tools without them, instead of refusing."""
    created: int = field(default_factory=lambda: int(time.time()))
    watchers: Watchers = field(init=False)
    """Who watches the engine's steps."""

    def __post_init__(self) -> None:
        self.watchers = Watchers(self.engine)

    @property
    def info(self) -> EngineInfo:
        return self.engine.info

    @staticmethod
    def of(request: Request) -> Served:
        served = request.app.state.served
        assert isinstance(served, Served)
        return served

    def model_card(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": "pellucid",
            "max_model_len": self.info.context_length,
            "sampling_defaults": dict(self.sampling_defaults),
        }

    def check_model(self, name: str | None) -> None:
        if name is not None and name not in self.names:
            raise InputError(
                f"there is no model {name!r} here; this server has {', '.join(self.names)}",
                param="model",
                code="model_not_found",
            )

    def need_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise InputError(
                "this model has no tokenizer: send prompts to /v1/completions as token ids",
                param="prompt",
                code="no_tokenizer",
            )
        return self.tokenizer

    def check_text_params(self, params: SamplingParams) -> None:
        if params.stop and self.tokenizer is None:
            raise InputError(
                "stop strings need a tokenizer, which this model does not have; use stop_token_ids",
                param="stop",
                code="no_tokenizer",
            )

    def check_tokens(self, ids: Sequence[int], param: str) -> None:
        """Before these ids are decoded; the engine checks what it is given itself."""
        vocab_size = self.info.vocab_size
        for token in (min(ids, default=0), max(ids, default=0)):
            if not 0 <= token < vocab_size:
                raise InputError(
                    f"token id {token} in {param} is not in the vocabulary of {vocab_size} tokens",
                    param=param,
                )

    def check_length(self, num_chars: int, param: str) -> None:
        """Refuse what no tokenizer could make short enough, before seconds are spent on it."""
        context = self.info.context_length
        if num_chars > MAX_TOKEN_CHARS * context:
            raise InputError(
                f"The prompt is too long: this model's maximum context length is {context} tokens, "
                f"but the prompt has {num_chars} characters, which are more: shorten it",
                param=param,
                code="context_length_exceeded",
            )

    async def read(self, request: Request, work: Callable[[dict[str, Any]], T]) -> T:
        """What `work` makes of a request's body, a JSON object.

        A long body is worked on in a thread, so that the others' tokens keep flowing: it may hold a
        long text, many short ones, or something else that takes its time.
        """
        body = await read_body(request, self.max_body)
        if len(body) <= SHORT_BODY:
            return understood(body, work)
        return await asyncio.to_thread(understood, body, work)
