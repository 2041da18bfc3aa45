"""The routes under /v1: models, completions, chat completions.

Both kinds of completion are one path: a body becomes a `Call` (requests, and how the answer is to
look), its requests become a `Submission`, and the outputs are collected into one answer or streamed
as they come. The status line of a stream waits until the engine has accepted
every request, so that a refusal still is a proper 4xx.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from pellucid.errors import InputError
from pellucid.request import Output
from pellucid.server import schemas
from pellucid.server.calls import Call, chat_call, completion_call
from pellucid.server.errors import ApiError, as_api_error, to_json
from pellucid.server.http import DONE, KEEP_ALIVE, EventStream, event, until_disconnect
from pellucid.server.pending import Submission
from pellucid.server.render import merge, usage
from pellucid.server.served import Served


async def list_models(request: HttpRequest) -> Response:
    served = Served.of(request)
    return to_json({"object": "list", "data": [served.model_card(name) for name in served.names]})


async def show_model(request: HttpRequest) -> Response:
    served = Served.of(request)
    name = request.path_params["model"]
    served.check_model(name)
    return to_json(served.model_card(name))


async def completions(request: HttpRequest) -> Response:
    return await _answer(request, completion_call)


async def chat_completions(request: HttpRequest) -> Response:
    return await _answer(request, chat_call)


MakeCall = Callable[[Served, str, dict[str, Any]], Call]


async def _answer(request: HttpRequest, make_call: MakeCall) -> Response:
    served = Served.of(request)
    call = await served.read(
        request, lambda value: make_call(served, request.state.request_id, value)
    )
    link = await until_disconnect(request.receive, served.engine.ready())
    submission = link.submit(call.requests())
    if call.stream is None:
        with submission:
            answer = await until_disconnect(request.receive, _collect(submission, call))
            return to_json(answer, headers=dict(call.headers))
    try:
        await until_disconnect(request.receive, submission.accepted())
    except BaseException:
        submission.close()
        raise
    events = _events(submission, call, call.stream, served.keep_alive_s)
    return EventStream(submission, events, call.headers)


async def _collect(submission: Submission, call: Call) -> dict[str, Any]:
    """The whole answer."""
    choices = call.choices()
    parts: dict[tuple[str, int], list[Output]] = {key: [] for key in choices}
    while outputs := await submission.take():
        sound, failure = _until_failure(outputs)
        if failure:
            raise failure
        for output in sound:
            parts[output.request_id, output.index].append(output)
    entries = [choice.whole(merge(parts[key])) for key, choice in choices.items()]
    num_completion = sum(choice.num_tokens for choice in choices.values())
    return call.form.head(chunk=False) | {
        "choices": entries,
        "usage": usage(call.num_prompt_tokens, num_completion),
    }


async def _events(
    submission: Submission, call: Call, options: schemas.StreamOptions, keep_alive_s: float
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
                outputs = await submission.take(keep_alive_s)
            except TimeoutError:
                yield KEEP_ALIVE
                continue
            if not outputs:
                break
            sound, failure = _until_failure(outputs)
            pieces = []
            for output in sound:
                choice = choices[output.request_id, output.index]
                pieces += [chunk([entry]) for entry in choice.chunks(output)]
            yield b"".join(pieces)
            if failure:
                raise failure
    except Exception as error:
        # The status line is out. No [DONE] follows: this answer must not look complete.
        yield event(as_api_error(error).body)
        if not isinstance(error, (ApiError, InputError)) and as_api_error(error).status == 500:
            raise
        return
    yield (chunk([]) if options.include_usage else b"") + DONE


def _until_failure(outputs: list[Output]) -> tuple[list[Output], ApiError | None]:
    """The outputs before the first of an answer that failed inside the engine, and its error.

    An answer that fails fails the call. Tokens that came before the failure reach a stream even if
    the server read both at once.
    """
    for place, output in enumerate(outputs):
        if output.finish_reason in ("error", "abort"):
            reason = output.error or "the request was aborted"
            return outputs[:place], ApiError(500, reason, code="engine_error")
    return outputs, None
