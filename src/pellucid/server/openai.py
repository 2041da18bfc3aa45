"""The routes under /v1: models, completions, chat completions.

Both kinds of completion are one path: a body becomes requests (tokenised here) and a `Form` (how
the answer is to look), the requests become a `Flight`, and its outputs are collected into one
answer or streamed as they come. The status line of a stream waits until the engine has accepted
every request, so that a refusal still is a proper 4xx.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from pellucid.errors import InputError
from pellucid.request import Output, Request, SamplingParams
from pellucid.server import schemas
from pellucid.server.errors import ApiError, as_api_error, to_json
from pellucid.server.http import DONE, KEEP_ALIVE, EventStream, event, read_json, until_disconnect
from pellucid.server.link import Flight
from pellucid.server.render import Choice, Form, merge, usage
from pellucid.server.served import Served


async def list_models(request: HttpRequest) -> Response:
    served = Served.of(request)
    return to_json({"object": "list", "data": [served.model_card(name) for name in served.names]})


async def show_model(request: HttpRequest) -> Response:
    served = Served.of(request)
    name = request.path_params["model"]
    served.check_model(name)
    return to_json(served.model_card(name))


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


async def completions(request: HttpRequest) -> Response:
    served = Served.of(request)
    body = schemas.parse_completion(await read_json(request, served.max_body))
    served.check_model(body.model)
    scored = [body.prompt_logprobs, body.logprobs if body.echo else None]
    params = schemas.sampling_params(
        body,
        served.sampling_defaults,
        logprobs=body.logprobs,
        prompt_logprobs=max((num for num in scored if num is not None), default=None),
    )
    form = _form(served, request, body, chat=False, num_top=body.logprobs, echo=body.echo)
    form = replace(form, only_scores=body.only_scores)
    served.check_text_params(params)
    prompts = [await _prompt(served, body, item) for item in schemas.prompts_of(body)]
    return await _answer(served, request, Call(form, prompts, params, _streaming(body)))


async def chat_completions(request: HttpRequest) -> Response:
    served = Served.of(request)
    value, headers = await read_json(request, served.max_body), {}
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
    form = _form(served, request, body, chat=True, num_top=num_top, echo=False)
    if body.truncate_prompt_tokens is None:
        served.check_length(body.chat.num_chars, "messages")
    ids = _truncated(served, body, await served.encode_chat(body.chat))
    call = Call(form, [Prompt(ids, "")], params, _streaming(body), headers)
    return await _answer(served, request, call)


def _streaming(body: schemas.Sampled) -> schemas.StreamOptions | None:
    return (body.stream_options or schemas.StreamOptions()) if body.stream else None


def _form(
    served: Served,
    request: HttpRequest,
    body: schemas.Sampled,
    *,
    chat: bool,
    num_top: int | None,
    echo: bool,
) -> Form:
    return Form(
        id=f"{'chatcmpl' if chat else 'cmpl'}-{request.state.request_id}",
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


async def _prompt(served: Served, body: schemas.CompletionBody, item: str | list[int]) -> Prompt:
    if isinstance(item, str):
        if body.truncate_prompt_tokens is None:
            served.check_length(len(item), "prompt")
        whole = await served.encode(
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


async def _answer(served: Served, request: HttpRequest, call: Call) -> Response:
    link = await until_disconnect(request.receive, served.engine.ready())
    flight = link.submit(call.requests())
    if call.stream is None:
        with flight:
            answer = await until_disconnect(request.receive, _collect(flight, call))
            return to_json(answer, headers=dict(call.headers))
    try:
        await until_disconnect(request.receive, flight.accepted())
    except BaseException:
        flight.close()
        raise
    events = _events(flight, call, call.stream, served.keep_alive_s)
    return EventStream(flight, events, call.headers)


async def _collect(flight: Flight, call: Call) -> dict[str, Any]:
    """The whole answer."""
    choices = call.choices()
    parts: dict[tuple[str, int], list[Output]] = {key: [] for key in choices}
    while outputs := await flight.take():
        for output in outputs:
            _check(output)
            parts[output.request_id, output.index].append(output)
    entries = [choice.whole(merge(parts[key])) for key, choice in choices.items()]
    num_completion = sum(choice.num_tokens for choice in choices.values())
    return call.form.head(chunk=False) | {
        "choices": entries,
        "usage": usage(call.num_prompt_tokens, num_completion),
    }


async def _events(
    flight: Flight, call: Call, options: schemas.StreamOptions, keep_alive_s: float
) -> AsyncGenerator[bytes, None]:
    """The answer as server-sent events; what is there at one time goes out in one piece."""
    choices = call.choices()

    def chunk(entries: list[dict[str, Any]]) -> bytes:
        value = call.form.head(chunk=True) | {"choices": entries}
        if options.continuous_usage_stats or (options.include_usage and not entries):
            num_completion = sum(choice.num_tokens for choice in choices.values())
            value["usage"] = usage(call.num_prompt_tokens, num_completion)
        elif options.include_usage:
            value["usage"] = None
        return event(value)

    if call.form.chat:
        yield b"".join(chunk([choice.role()]) for choice in choices.values())
    try:
        while True:
            try:
                outputs = await flight.take(keep_alive_s)
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            if not outputs:
                break
            pieces = []
            for output in outputs:
                _check(output)
                choice = choices[output.request_id, output.index]
                pieces += [chunk([entry]) for entry in choice.chunks(output)]
            yield b"".join(pieces)
    except Exception as error:
        # The status line is out. No [DONE] follows: this answer must not look complete.
        yield event(as_api_error(error).body)
        if not isinstance(error, (ApiError, InputError)) and as_api_error(error).status == 500:
            raise
        return
    yield (chunk([]) if options.include_usage else b"") + DONE


def _check(output: Output) -> None:
    """An answer that failed inside the engine fails the call."""
    if output.finish_reason in ("error", "abort"):
        reason = output.error or "the request was aborted"
        raise ApiError(500, reason, code="engine_error")
