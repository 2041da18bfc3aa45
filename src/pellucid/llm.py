"""The library's front door: `LLM` drives an engine in the caller's own process."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.model.checkpoint import Checkpoint
from pellucid.request import EngineInfo, Output, Request, SamplingParams
from pellucid.stages import Clock
from pellucid.text.chat import encode_chat
from pellucid.text.tokenizer import Tokenizer

Prompt: TypeAlias = "str | Sequence[int]"
Message: TypeAlias = Mapping[str, Any]
Work: TypeAlias = list[tuple[list[int], SamplingParams]]
"""Prompts as token ids, each with its parameters."""


class LLM:
    """A model to call.

    >>> llm = LLM("smollm2")
    >>> llm.generate("The capital of France is", SamplingParams(max_tokens=8, temperature=0))

    Keywords are the fields of `EngineConfig`; an unknown one raises `InputError`. Not thread-safe.

    Garbage collector, threads (unless `threads` is given) and allocator of the process stay as they
    are. A program whose work is the engine is faster on a CPU after `process.own_process()`.
    """

    def __init__(
        self, model: str = "smollm2", *, clock: Clock | None = None, **options: Any
    ) -> None:
        self._open(EngineConfig.from_kwargs(model=model, **options), None, clock)

    @classmethod
    def from_config(
        cls,
        config: EngineConfig,
        *,
        checkpoint: Checkpoint | None = None,
        clock: Clock | None = None,
    ) -> LLM:
        """The same from a whole configuration, and from a model that is open already."""
        llm = cls.__new__(cls)
        llm._open(config, checkpoint, clock)
        return llm

    def _open(
        self, config: EngineConfig, checkpoint: Checkpoint | None, clock: Clock | None
    ) -> None:
        self.engine = Engine(config, checkpoint, clock)
        self._ids = itertools.count()
        self._inbox: dict[str, deque[Output]] = {}

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; `InputError` if it came without one."""
        tokenizer = self.engine.checkpoint.tokenizer
        if tokenizer is None:
            raise InputError(
                f"{self.engine.checkpoint.path} has no tokenizer.json: give prompts as token ids"
            )
        return tokenizer

    def default_params(self, **fields: Any) -> SamplingParams:
        """The sampling parameters that the model's authors recommend, with `fields` set as given.

        >>> LLM("smollm2").default_params(max_tokens=64)  # temperature 0.2, top_p 0.9: its card's
        """
        return SamplingParams(**{**self.engine.checkpoint.sampling_defaults, **fields})

    def switch(self, **choices: Any) -> EngineInfo:
        """Go on with other switches of the switchboard, with the weights that are loaded.

        >>> llm.switch(kv_cache="off").why["kv_cache"]

        Answers that are being streamed go on. Returns what the engine became; `InputError` for what
        cannot be had here, and then all is as it was.
        """
        return self.engine.switch(**choices)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **fields: Any,
    ) -> list[Output]:
        """Complete each prompt (text or token ids).

        `params` holds for all prompts as it is, or is a list with one for each. Without it the
        model's own defaults hold, but for the single fields of `SamplingParams` given as keywords.
        Returns `n` outputs per prompt, in the order of the prompts and then of `index`.
        """
        return self._complete(self._work(prompts, params, fields))

    def stream_all(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **fields: Any,
    ) -> Generator[tuple[int, Output], None, None]:
        """Complete the prompts side by side, piece by piece, whichever comes first.

        `params` and `fields` as in `generate`. Yields the number of a prompt, from 0, and what is
        new of one of its answers. Closing the iterator early ends all requests.
        """
        return self._stream_all(self._work(prompts, params, fields))

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **fields: Any,
    ) -> list[Output]:
        """Answer a conversation, or each of several, as the model's chat template has it.

        `params` and `fields` as in `generate`: `llm.chat(messages, max_tokens=64)` is asked as the
        model's authors recommend.
        """
        conversations = [messages] if messages and isinstance(messages[0], Mapping) else messages
        settings = self._spread(params, fields, len(conversations))
        ids = [encode_chat(self.tokenizer, list(c)) for c in conversations]  # type: ignore[arg-type]
        return self._complete(list(zip(ids, settings, strict=True)))

    def stream(
        self,
        prompt: Prompt | Sequence[Message],
        params: SamplingParams | None = None,
        **fields: Any,
    ) -> Generator[Output, None, None]:
        """Complete one prompt, or answer one conversation, piece by piece.

        `params` and `fields` as in `generate`. Each `Output` holds what is new. Closing the
        iterator early ends the request.
        """
        [settings] = self._spread(params, fields, 1)
        ids = self._encode_any(prompt)
        return self._stream(self._add(ids, settings, deque(), is_last=True), settings.n)

    def _stream(self, request_id: str, num_open: int) -> Generator[Output, None, None]:
        try:
            yield from self._until_done(self._inbox[request_id], num_open)
        finally:
            self._forget([request_id])

    def _stream_all(self, work: Work) -> Generator[tuple[int, Output], None, None]:
        inbox: deque[Output] = deque()
        numbers: dict[str, int] = {}
        try:
            for number, (ids, params) in enumerate(work):
                is_last = number == len(work) - 1
                numbers[self._add(ids, params, inbox, is_last)] = number
            for piece in self._until_done(inbox, sum(params.n for _, params in work)):
                yield numbers[piece.request_id], piece
        finally:
            self._forget(numbers)

    def _until_done(self, inbox: deque[Output], num_open: int) -> Iterator[Output]:
        """Pieces as they come, until that many answers have ended."""
        while num_open:
            while not inbox:
                self._pump()
            piece = inbox.popleft()
            num_open -= piece.finish_reason is not None
            yield piece

    def _complete(self, work: Work) -> list[Output]:
        answers: dict[tuple[int, int], Output] = {}
        for number, piece in self._stream_all(work):
            empty = Output(request_id=piece.request_id, index=piece.index)
            answers.setdefault((number, piece.index), empty).extend(piece)
        return [answers[key] for key in sorted(answers)]

    def _work(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None,
        fields: dict[str, Any],
    ) -> Work:
        several = _as_list(prompts)
        settings = self._spread(params, fields, len(several))
        return [(self._encode(p), s) for p, s in zip(several, settings, strict=True)]

    def _add(
        self, ids: list[int], params: SamplingParams, inbox: deque[Output], is_last: bool
    ) -> str:
        request_id = str(next(self._ids))
        request = Request(id=request_id, prompt_token_ids=ids, params=params)
        self.engine.add(request, last=is_last)
        self._inbox[request_id] = inbox
        return request_id

    def _pump(self) -> None:
        """One step; outputs go to whoever waits for them."""
        for output in self.engine.step():
            self._inbox[output.request_id].append(output)

    def _forget(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            if request_id in self._inbox:
                self.engine.abort(request_id)
                del self._inbox[request_id]

    def _spread(
        self,
        params: SamplingParams | Sequence[SamplingParams] | None,
        fields: dict[str, Any],
        count: int,
    ) -> list[SamplingParams]:
        """The parameters of each of `count` prompts."""
        if params is None:
            return [self.default_params(**fields)] * count
        if fields:
            raise InputError(
                f"{', '.join(fields)}: give whole SamplingParams or single fields, not both"
            )
        if isinstance(params, SamplingParams):
            return [params] * count
        if len(params) != count:
            raise InputError(f"{len(params)} sampling parameters were given for {count} prompts")
        return list(params)

    def _encode(self, prompt: Prompt) -> list[int]:
        return self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)

    def _encode_any(self, prompt: Prompt | Sequence[Message]) -> list[int]:
        if not isinstance(prompt, str) and prompt and isinstance(prompt[0], Mapping):
            return encode_chat(self.tokenizer, list(prompt))  # type: ignore[arg-type]
        return self._encode(prompt)  # type: ignore[arg-type]


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """Prompts as a list: text and a list of token ids are one prompt each."""
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]
