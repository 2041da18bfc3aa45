"""Text to token ids and back, over HTTP: what evaluation harnesses use instead of a local copy."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pellucid.server.errors import to_json
from pellucid.server.http import read_json
from pellucid.server.schemas import DetokenizeBody, TokenizeBody, parse
from pellucid.server.served import Served


async def tokenize(request: Request) -> Response:
    served = Served.of(request)
    body = parse(await read_json(request, served.max_body), TokenizeBody)
    served.check_model(body.model)
    ids = await served.encode(body.prompt, add_special_tokens=body.add_special_tokens)
    length = served.info.context_length
    return to_json({"tokens": ids, "count": len(ids), "max_model_len": length})


async def detokenize(request: Request) -> Response:
    served = Served.of(request)
    body = parse(await read_json(request, served.max_body), DetokenizeBody)
    served.check_model(body.model)
    tokenizer = served.need_tokenizer()
    served.check_tokens(body.tokens, "tokens")
    text = await served.off_loop(
        len(body.tokens), lambda: tokenizer.decode(body.tokens, skip_special_tokens=False)
    )
    return to_json({"prompt": text})


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
