"""From a body to a call that is ready for the engine: checked, tokenised, nothing waited for.

All of it may run in a thread beside the event loop, because a body can be long (`Served.read`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pellucid.request import Request, SamplingParams
from pellucid.server import schemas
from pellucid.server.render import Choice, Form
from pellucid.server.served import Served


@dataclass(frozen=True)
class Prompt:
    token_ids: list[int]
    text: str
    """What echo repeats; empty where nobody asked."""


@dataclass(frozen=True)
class Call:
    """One HTTP call, ready for the engine."""

    form: Form
    prompts: list[Prompt]
    params: SamplingParams
    stream: schemas.StreamOptions | None
    headers: Mapping[str, str] = field(default_factory=dict)
    """More of them for the answer."""

    def requests(self) -> list[Request]:
        return [
            Request(id=f"{self.form.id}/{i}", prompt_token_ids=prompt.token_ids, params=self.params)
            for i, prompt in enumerate(self.prompts)
        ]

    def choices(self) -> dict[tuple[str, int], Choice]:
        """By request id and index among the request's own; numbered prompt by prompt."""
        n = self.params.n
        return {
            (f"{self.form.id}/{i}", k): Choice(self.form, i * n + k, prompt.text, prompt.token_ids)
            for i, prompt in enumerate(self.prompts)
            for k in range(n)
        }

    @property
    def num_prompt_tokens(self) -> int:
        return sum(len(prompt.token_ids) for prompt in self.prompts)


def completion_call(served: Served, request_id: str, value: dict[str, Any]) -> Call:
    body = schemas.parse_completion(value)
    served.check_model(body.model)
    scored = [body.prompt_logprobs, body.logprobs if body.echo else None]
    params = schemas.sampling_params(
        body,
        served.sampling_defaults,
        logprobs=body.logprobs,
        prompt_logprobs=max((num for num in scored if num is not None), default=None),
    )
    form = _form(served, request_id, body, chat=False, num_top=body.logprobs, echo=body.echo)
    form = replace(form, only_scores=body.only_scores)
    served.check_text_params(params)
    prompts = [_prompt(served, body, item) for item in schemas.prompts_of(body)]
    return Call(form, prompts, params, _streaming(body))


def chat_call(served: Served, request_id: str, value: dict[str, Any]) -> Call:
    headers = {}
    if served.drop_tools:
        value, dropped = schemas.drop_tools(value)
        if dropped:
            headers["warning"] = f'299 pellucid "dropped, as --drop-tools says: {dropped[0]}"'
    body = schemas.parse_chat(value)
    served.check_model(body.model)
    num_top = (body.top_logprobs or 0) if body.logprobs else None
    params = schemas.sampling_params(
        body, served.sampling_defaults, logprobs=num_top, prompt_logprobs=body.prompt_logprobs
    )
    form = _form(served, request_id, body, chat=True, num_top=num_top, echo=False)
    tokenizer, chat = served.need_tokenizer(), body.chat
    if body.truncate_prompt_tokens is None:
        served.check_length(chat.num_chars, "messages")
    ids = _truncated(served, body, chat.encode(tokenizer))
    return Call(form, [Prompt(ids, "")], params, _streaming(body), headers)


def _streaming(body: schemas.Sampled) -> schemas.StreamOptions | None:
    return (body.stream_options or schemas.StreamOptions()) if body.stream else None


def _form(
    served: Served,
    request_id: str,
    body: schemas.Sampled,
    *,
    chat: bool,
    num_top: int | None,
    echo: bool,
) -> Form:
    return Form(
        id=f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
        created=int(time.time()),
        model=body.model or served.names[0],
        tokenizer=served.tokenizer,
        chat=chat,
        num_top=num_top,
        num_prompt_top=body.prompt_logprobs,
        echo=echo,
        # Without a tokenizer there is no text: the ids are the answer.
        token_ids=body.return_token_ids or served.tokenizer is None,
        skip_special_tokens=body.skip_special_tokens is not False,
        names_are_ids=body.return_tokens_as_token_ids,
        include_stop=body.include_stop_str_in_output,
    )


def _prompt(served: Served, body: schemas.CompletionBody, item: str | list[int]) -> Prompt:
    if isinstance(item, str):
        if body.truncate_prompt_tokens is None:
            served.check_length(len(item), "prompt")
        whole = served.need_tokenizer().encode(
            item, add_special_tokens=body.add_special_tokens, parse_special=body.parse_special
        )
    else:
        served.check_tokens(item, "prompt")
        whole = item
    ids = _truncated(served, body, whole)
    if isinstance(item, str) and ids is whole:
        return Prompt(ids, item)
    text = ""
    if body.echo and served.tokenizer:
        text = served.tokenizer.decode(
            ids, skip_special_tokens=body.skip_special_tokens is not False
        )
    return Prompt(ids, text)


def _truncated(served: Served, body: schemas.Sampled, ids: list[int]) -> list[int]:
    """The last tokens of a prompt, as far as the call asks for no more. A BOS in front stays."""
    kept = body.truncate_prompt_tokens
    if kept == -1:
        kept = max(1, served.info.context_length - max(1, body.max_tokens or 1))
    if kept is None or len(ids) <= kept:
        return ids
    bos = served.tokenizer.bos_token_id if served.tokenizer else None
    front = ids[:1] if ids[0] == bos else []
    return front + ids[len(ids) - kept + len(front) :]
