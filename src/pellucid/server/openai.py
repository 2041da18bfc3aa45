"""The routes under /v1: models, completions, chat completions.

Both kinds of completion are one path: a body becomes requests (tokenised here) and a `Form` (how
the answer is to look), the requests become a `Flight`, and its outputs are collected into one
answer or streamed as they come. The status line of a stream waits until the engine has accepted
every request, so that a refusal still is a proper 4xx.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
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
from pellucid.text.chat import encode_chat


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
    if body.max_tokens is None:
        body.max_tokens = schemas.COMPLETION_MAX_TOKENS
    scored = [body.prompt_logprobs, body.logprobs if body.echo else None]
    params = schemas.sampling_params(
        body,
        logprobs=body.logprobs,
        prompt_logprobs=max((num for num in scored if num is not None), default=None),
    )
    form = _form(served, request, body, chat=False, num_top=body.logprobs, echo=body.echo)
    served.check_text_params(params)
    prompts = [await _prompt(served, body, item) for item in schemas.prompts_of(body)]
    return await _answer(served, request, Call(form, prompts, params, _streaming(body)))


async def chat_completions(request: HttpRequest) -> Response:
    served = Served.of(request)
    body = schemas.parse_chat(await read_json(request, served.max_body))
    served.check_model(body.model)
    num_top = (body.top_logprobs or 0) if body.logprobs else None
    params = schemas.sampling_params(body, logprobs=num_top, prompt_logprobs=body.prompt_logprobs)
    form = _form(served, request, body, chat=True, num_top=num_top, echo=False)
    ids = await _encode_messages(served, body)
    return await _answer(served, request, Call(form, [Prompt(ids, "")], params, _streaming(body)))


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
    )


async def _prompt(served: Served, body: schemas.CompletionBody, item: str | list[int]) -> Prompt:
    if isinstance(item, str):
        served.check_length(len(item), "prompt")
        ids = await served.encode(item, add_special_tokens=body.add_special_tokens)
        return Prompt(ids, item)
    served.check_tokens(item, "prompt")
    text = ""
    if body.echo and served.tokenizer:
        text = served.tokenizer.decode(
            item, skip_special_tokens=body.skip_special_tokens is not False
        )
    return Prompt(item, text)


async def _encode_messages(served: Served, body: schemas.ChatBody) -> list[int]:
    tokenizer = served.need_tokenizer()
    messages: list[dict[str, Any]] = []
    for message in body.messages:
        # "developer" is OpenAI's newer word for "system"; templates know the older one.
        role = "system" if message.role == "developer" else message.role
        fields = {"role": role, "content": message.content, "name": message.name}
        messages.append({key: value for key, value in fields.items() if value is not None})
    num_chars = sum(len(message["content"]) for message in messages)
    served.check_length(num_chars, "messages")
    return await served.off_loop(
        num_chars,
        lambda: encode_chat(tokenizer, messages, **body.chat_template_kwargs),
    )


async def _answer(served: Served, request: HttpRequest, call: Call) -> Response:
    flight = served.link.submit(call.requests())
    if call.stream is None:
        with flight:
            return to_json(await until_disconnect(request.receive, _collect(flight, call)))
    try:
        await until_disconnect(request.receive, flight.accepted())
    except BaseException:
        flight.close()
        raise
    return EventStream(flight, _events(flight, call, call.stream, served.keep_alive_s))


async def _collect(flight: Flight, call: Call) -> dict[str, Any]:
    """The whole answer."""
    parts: dict[tuple[str, int], list[Output]] = {key: [] for key in call.choices()}
    while outputs := await flight.take():
        for output in outputs:
            _check(output)
            parts[output.request_id, output.index].append(output)
    wholes = {key: merge(outputs) for key, outputs in parts.items()}
    num_completion = sum(len(whole.token_ids) for whole in wholes.values())
    return call.form.head(chunk=False) | {
        "choices": [choice.whole(wholes[key]) for key, choice in call.choices().items()],
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
