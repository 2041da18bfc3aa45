"""The life of one answer: its tokens, their text, and what ends it.

The scheduler decides when a sequence is computed; an `Answer` decides what its tokens mean. It
takes the tokens of a step, one or several, and gives back the `Output` that a client sees: new text
that will not change any more, log-probabilities, and at the end a reason and what it cost.

    tokens      … 504 "\\n"   198 "User"   11126 ":"   2 <eos>
    stop="User:"             └── found with the third token; the fourth is not looked at

An answer ends at the first of: one of the request's own stop tokens, one of the model's end tokens,
a stop string, the limit of tokens. Tokens that landed behind the end are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.errors import InputError
from pellucid.request import (
    FinishReason,
    Output,
    Request,
    SamplingParams,
    SequenceStart,
    Stats,
    TokenLogprob,
    looks_back,
)
from pellucid.text.stream import Text


class Answer:
    """One of the `n` answers to a request. Times are those of the scheduler's clock, in seconds."""

    def __init__(
        self,
        request: Request,
        index: int,
        *,
        limit: int,
        end_tokens: frozenset[int],
        text: Text,
        arrival: float,
        scored_by: Answer | None = None,
    ) -> None:
        self.request = request
        self.index = index
        self.tokens = list(request.prompt_token_ids)
        """Prompt and answer."""
        self.num_prompt = len(self.tokens)
        self.limit = limit
        """Tokens it may have in all, prompt included."""
        self.started: float | None = None
        """When the first step began that computed anything for it."""
        self.num_preemptions = 0
        self.prompt_scores: list[TokenLogprob | None] = [None]
        """Log-probabilities of the prompt's tokens; of the first there is none."""
        self._end_tokens = end_tokens
        self._text = text
        self.arrival = arrival
        self._first_token: float | None = None
        self._scored_by = scored_by or self
        """Whose `prompt_scores` are this answer's too: those of the request's first answer."""
        self._is_announced = False

    @property
    def params(self) -> SamplingParams:
        return self.request.params

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def wants_prompt_scores(self) -> bool:
        """Whether log-probabilities of the prompt's tokens are still to be computed for it."""
        wanted = self.params.prompt_logprobs is not None and self._scored_by is self
        return wanted and len(self.prompt_scores) < self.num_prompt

    def start(self, seq_id: int, seed: int) -> SequenceStart:
        """What the runner learns of it before its first row."""
        return SequenceStart(
            seq_id=seq_id,
            params=self.params,
            seed=seed,
            num_prompt=self.num_prompt,
            num_known=len(self.tokens),
            tokens=list(self.tokens) if looks_back(self.params) else [],
        )

    def score_prompt(self, scores: Sequence[TokenLogprob], start: int) -> None:
        """Take log-probabilities of the prompt's tokens from position start + 1 on."""
        # After a preemption positions are scored again that are known already.
        self.prompt_scores.extend(scores[len(self.prompt_scores) - start - 1 :])

    def take(
        self, tokens: Sequence[int], scores: Sequence[TokenLogprob] | None, now: float
    ) -> Output:
        """Append tokens up to the end of the answer, if it is among them; at least one is given."""
        output = Output(request_id=self.request.id, index=self.index)
        if self.params.logprobs is not None:
            output.logprobs = []
        self._first_token = self._first_token or now
        for place, token in enumerate(tokens):
            output.text += self._append(token, output)
            output.token_ids.append(token)
            if output.logprobs is not None and scores is not None:
                output.logprobs.append(scores[place])
            if output.finish_reason is not None:
                break
        self._announce(output)
        if output.finish_reason is not None:
            self._close(output, now)
        return output

    def fail(self, message: str, now: float) -> Output:
        """End it by an error that is not the client's."""
        output = Output(
            request_id=self.request.id, index=self.index, finish_reason="error", error=message
        )
        self._announce(output)
        self._close(output, now)
        return output

    def _append(self, token: int, output: Output) -> str:
        """The new text; sets the reason in `output` if the answer ends here."""
        self.tokens.append(token)
        output.finish_reason, output.stop_reason = self._ends(token)
        if output.finish_reason == "stop":
            return ""  # the token that ends the answer is no part of its text
        # Stop strings count from the token after the first `min_tokens` on.
        text = self._text.push([token], may_stop=self.num_output > self.params.min_tokens)
        if self._text.stopped is not None:
            output.finish_reason, output.stop_reason = "stop", self._text.stopped
        return text

    def _ends(self, token: int) -> tuple[FinishReason | None, str | int | None]:
        if token in self.params.stop_token_ids:
            return "stop", token
        if token in self._end_tokens and not self.params.ignore_eos:
            return "stop", None
        if len(self.tokens) >= self.limit:
            return "length", None
        return None, None

    def _announce(self, output: Output) -> None:
        """The first output brings the prompt."""
        if self._is_announced:
            return
        self._is_announced = True
        output.prompt_token_ids = self.request.prompt_token_ids
        if self.params.prompt_logprobs is not None:
            output.prompt_logprobs = self._scored_by.prompt_scores

    def _close(self, output: Output, now: float) -> None:
        """The last output brings the text held back and what the answer cost."""
        output.text += self._text.finish()
        output.stats = Stats(
            num_prompt_tokens=self.num_prompt,
            num_output_tokens=self.num_output,
            queue_s=(self.started or now) - self.arrival,
            first_token_s=(self._first_token or now) - self.arrival,
            total_s=now - self.arrival,
            num_preemptions=self.num_preemptions,
        )


def token_limit(request: Request, context_length: int, capacity: int) -> int:
    """Tokens that an answer may have in all, prompt included; `InputError` if the request could
    never be completed.

    capacity: tokens that a single sequence may have in the KV cache.
    """
    num_prompt, wanted = len(request.prompt_token_ids), request.params.max_tokens
    if num_prompt == 0:
        raise InputError("the prompt is empty: it must have at least one token", param="prompt")
    for most, what, remedy in (
        (
            context_length,
            "this model's maximum context length",
            "shorten the prompt or lower max_tokens",
        ),
        (capacity, "what the KV cache holds", "raise memory or num_blocks"),
    ):
        if num_prompt + (wanted or 1) > most:
            raise InputError(  # in words that client libraries look for
                f"The prompt is too long: {what} is {most} tokens, but the prompt has "
                f"{num_prompt} tokens and {wanted or 'at least 1'} more are asked for: "
                f"{remedy}",
                param="max_tokens" if wanted and num_prompt < most else "prompt",
                code="context_length_exceeded",
            )
    most = min(context_length, capacity)
    return most if wanted is None else num_prompt + wanted
