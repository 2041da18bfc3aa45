"""What the heads of the engine look at in a text: `POST /explorer/v1/attention`.

The text is made into tokens here; the engine's process passes it through the model between two
steps (`worker.take_look`), one text after the other, so that answers being made wait for one pass
at most. What a view holds is written in `explore/attention.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from pellucid.errors import InputError
from pellucid.server.errors import to_json
from pellucid.server.http import until_disconnect
from pellucid.server.messages import Message, Templated, with_plain_messages
from pellucid.server.parsing import parse
from pellucid.server.render import token_name
from pellucid.server.served import Served

SOURCES = ("text", "prompt_token_ids", "messages")


class AttentionBody(msgspec.Struct, kw_only=True):
    """One of `SOURCES`; the other fields are those of `explore.attention.AttentionWish`."""

    model: str | None = None
    text: str | None = None
    prompt_token_ids: list[int] | None = None
    messages: list[Message] | None = None
    layer: int = 0
    head: int = 0
    thumbnails: bool = False
    tiles: bool = False
    row: int | None = None
    block_m: int = 0
    block_n: int = 0


async def show(request: HttpRequest) -> Response:
    """The weights of one head for a text, recomputed; with them, if asked for, small pictures of
    all heads and the course of flash attention over this one's tiles."""
    served = Served.of(request)
    wish = await served.read(request, lambda value: wish_of(served, value))
    view = await looked(request, wish)
    names = [token_name(served.tokenizer, token) for token in wish["token_ids"]]
    tokens = [
        {"id": token, "text": name} for token, name in zip(wish["token_ids"], names, strict=True)
    ]
    return to_json({"tokens": tokens, **view})


def wish_of(served: Served, value: dict[str, Any]) -> dict[str, Any]:
    """A body as the engine's process wants it."""
    body = parse(with_plain_messages(value), AttentionBody)
    served.check_model(body.model)
    wish: dict[str, Any] = msgspec.to_builtins(body)
    for name in ("model", *SOURCES):
        del wish[name]
    return wish | {"token_ids": ids_of(served, body)}


def ids_of(served: Served, body: AttentionBody) -> list[int]:
    given = [name for name in SOURCES if getattr(body, name) is not None]
    if len(given) != 1:
        have = " and ".join(given) or "none of them"
        raise InputError(f"send one of {', '.join(SOURCES)}; this has {have}", param="text")
    if body.prompt_token_ids is not None:
        served.check_tokens(body.prompt_token_ids, "prompt_token_ids")
        return body.prompt_token_ids
    tokenizer = served.need_tokenizer()
    if body.messages is not None:
        chat = Templated(messages=body.messages)
        chat.check()
        served.check_length(chat.num_chars, "messages")
        return chat.encode(tokenizer)
    assert body.text is not None
    served.check_length(len(body.text), "text")
    return tokenizer.encode(body.text)


async def looked(request: HttpRequest, wish: dict[str, Any]) -> dict[str, Any]:
    """What the engine's process answers. A look cannot be broken off: if the client leaves, the
    next one still waits for its end."""
    served = Served.of(request)
    link = await until_disconnect(request.receive, served.engine.ready())
    await until_disconnect(request.receive, served.looking.acquire())
    task = asyncio.ensure_future(link.attention(request.state.request_id, wish))

    def free(task: asyncio.Future[dict[str, Any]]) -> None:
        served.looking.release()
        if not task.cancelled():
            task.exception()  # asked for, in case nobody is there any more

    task.add_done_callback(free)
    return await until_disconnect(request.receive, asyncio.shield(task))
