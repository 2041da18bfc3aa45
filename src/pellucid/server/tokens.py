"""Text to token ids and back, over HTTP: what evaluation harnesses use instead of a local copy."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pellucid.server.errors import to_json
from pellucid.server.parsing import parse
from pellucid.server.render import token_name
from pellucid.server.schemas import DetokenizeBody, TokenizeChatBody, parse_tokenize
from pellucid.server.served import Served


async def tokenize(request: Request) -> Response:
    """Ids of a text, or of the prompt that messages make."""
    served = Served.of(request)

    def work(value: dict[str, Any]) -> dict[str, Any]:
        body = parse_tokenize(value)
        served.check_model(body.model)
        tokenizer = served.need_tokenizer()
        if isinstance(body, TokenizeChatBody):
            ids = body.encode(tokenizer)
        else:
            ids = tokenizer.encode(
                body.prompt,
                add_special_tokens=body.add_special_tokens,
                parse_special=body.parse_special,
            )
        length = served.info.context_length
        answer = {"tokens": ids, "count": len(ids), "max_model_len": length}
        if body.return_token_strs:
            answer["token_strs"] = [token_name(tokenizer, token) for token in ids]
        return answer

    return to_json(await served.read(request, work))


async def detokenize(request: Request) -> Response:
    served = Served.of(request)

    def work(value: dict[str, Any]) -> dict[str, Any]:
        body = parse(value, DetokenizeBody)
        served.check_model(body.model)
        tokenizer = served.need_tokenizer()
        served.check_tokens(body.tokens, "tokens")
        return {"prompt": tokenizer.decode(body.tokens, skip_special_tokens=False)}

    return to_json(await served.read(request, work))


async def tokenizer_info(request: Request) -> Response:
    """The special tokens by their text, and the chat template."""
    tokenizer = Served.of(request).need_tokenizer()

    def name(token: int | None) -> str | None:
        return None if token is None else tokenizer.token_text(token)

    eos = tokenizer.eos_token_ids
    return to_json(
        {
            "bos_token": name(tokenizer.bos_token_id),
            "eos_token": name(eos[0] if eos else None),
            "pad_token": name(tokenizer.pad_token_id),
            "chat_template": tokenizer.chat_template,
        }
    )
