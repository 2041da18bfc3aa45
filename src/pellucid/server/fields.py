"""The fields that pellucid does not honour, in two tables: no-ops, and what is refused.

A no-op changes nothing about the answer here, whatever its value, and is accepted: it names the
caller (`user`, `metadata`), chooses a tier, a cache or a back end that do not exist here
(`service_tier`, `cache_salt`, `guided_decoding_backend`), or speaks of spaces that no tokenizer
here puts between special tokens.

Any other field that would change the answer and is not implemented is refused, unless its value
asks for nothing: many clients send every field they know with the value that turns it off, such as
`use_beam_search: false`. Such values stand beside the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Harmless = Mapping[str, tuple[Any, ...]]
"""Fields that are refused, with the values that ask for nothing."""
NOTHING: Final[Harmless] = {}

NOOPS: Final = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "cache_salt",
        "cache_prompt",
        "guided_decoding_backend",
        "spaces_between_special_tokens",
    }
)
CHAT_NOOPS: Final = NOOPS | {"parallel_tool_calls"}
STREAM_OPTIONS_NOOPS: Final = frozenset({"include_obfuscation"})
PART_NOOPS: Final = frozenset({"cache_control"})
"""In a text part of a message, and in a message."""

_SAMPLING: Final[Harmless] = {
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "early_stopping": (False,),
    "typical_p": (1,),
    "tfs": (1,),
    "top_a": (0,),
    "mirostat": (0,),
    "mirostat_mode": (0,),
    "xtc_probability": (0,),
    "dry_multiplier": (0,),
    "logits_processors": ([],),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "priority": (0,),
    "vllm_xargs": ({},),
    "kv_transfer_params": ({},),
}
_CONSTRAINTS: Final[Harmless] = {
    "response_format": ({"type": "text"},),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": ({},),
    "grammar": ("",),
    "json_schema": ({},),
}
REFUSED: Final[Harmless] = {**_SAMPLING, **_CONSTRAINTS, "suffix": ("",)}
CHAT_REFUSED: Final[Harmless] = {
    **_SAMPLING,
    **_CONSTRAINTS,
    "best_of": (1,),
    "echo": (False,),
    "documents": ([],),
    "mm_processor_kwargs": ({},),
    "modalities": ([], ["text"]),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "verbosity": ("medium",),
    "moderation": (),
    "prompt_cache_options": (),
    "chat_template": (),
}
TOOLS: Final[Harmless] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
}
"""Of a chat. --drop-tools drops the lists; a call that must be made is refused even then."""
MESSAGE_REFUSED: Final[Harmless] = {
    "type": ("text", "message"),
    "tool_calls": ([],),
    "function_call": (),
    "tool_call_id": (),
    "audio": (),
    "refusal": ("",),
    "annotations": ([],),
}
TOOLS_REMEDY: Final = "start the server with --drop-tools, which answers without them"
REMEDIES: Final[Mapping[str, str]] = {"tools": TOOLS_REMEDY, "functions": TOOLS_REMEDY}
"""What else can be done about a field that is refused."""
