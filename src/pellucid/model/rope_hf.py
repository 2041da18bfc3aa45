"""The rotary embedding of a config.json, in all its spellings.

    rope_theta, rope_scaling      transformers 4: the base, and how frequencies are stretched
    rope_parameters               transformers 5: both together; for Gemma a section for each type
                                  of layer
    rope_type, type               the newer and the older name of the kind of stretching

What holds where several stand side by side is what transformers 5 makes of it, with one exception:
where a section that was added by hand names no base, the model's own stays in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pellucid.model.fields import MAX_CONTEXT, Fields
from pellucid.model.spec import RopeScaling, yarn_attention_factor


def rope_fields(get: Fields, family: str) -> dict[str, Any]:
    """Bases and scaling of the rotary embedding, and the context length that follows."""
    saved, older = get.section("rope_parameters"), get.section("rope_scaling")
    local: Mapping[str, Any] = {}
    if "full_attention" in saved:  # a section for each type of layer
        layers = Fields(saved, get.path)
        saved, local = layers.section("full_attention"), layers.section("sliding_attention")
    everywhere = Fields(chosen(saved, older, family, get.get("rope_theta")), get.path)
    context = get.context("max_position_embeddings")
    # Beside the section it counts before the one in it, as in transformers.
    original = get.get("original_max_position_embeddings")
    scaling = rope_scaling(everywhere, context, original)
    if scaling.kind == "yarn":
        stretched = scaling.original_context * scaling.factor
        if stretched > MAX_CONTEXT:
            raise everywhere.error("factor", f"stretches the context beyond {MAX_CONTEXT} tokens")
        context = max(context, int(stretched))
    found = {
        "context_length": context,
        "rope_theta": everywhere.number("rope_theta", 1e4, above=1.0),
        "rope_scaling": scaling,
    }
    if family == "gemma3" or (local and local != saved):
        below = Fields({"rope_theta": get.get("rope_local_base_freq"), **local}, get.path)
        if rope_scaling(below, context).kind != "none":
            raise get.error("rope_parameters", "scale the sliding layers too: not supported")
        found["rope_theta_local"] = below.number("rope_theta", 1e4, above=1.0)
    return found


def chosen(
    saved: Mapping[str, Any], older: Mapping[str, Any], family: str, theta: float | None
) -> dict[str, Any]:
    """The rope parameters that hold where a config has both spellings.

    Model cards tell people to add `rope_scaling` to a config.json, which may have been saved by
    transformers 5 with `rope_parameters` of the default type: what was added counts. Gemma's adds
    to the saved section, the others' replaces it, but for the base that it does not name.
    """
    if not older:
        return {"rope_theta": theta, **saved}
    kept = saved if family == "gemma3" else {}
    kind = older.get("rope_type") or older.get("type") or kept.get("rope_type")
    return {"rope_theta": saved.get("rope_theta", theta), **kept, **older, "rope_type": kind}


ROPE_TYPES = ("default", "linear", "llama3", "yarn")
ROPE_NEUTRAL = {"partial_rotary_factor": 1.0, "extrapolation_factor": 1.0, "attn_factor": 1.0}
"""Keys that some engine acts on and we do not. All others, such as `finetuned`, change nothing."""


def rope_scaling(get: Fields, context: int, original: int | None = None) -> RopeScaling:
    """The scaling that one set of rope parameters describes; `original` as it stands beside it."""
    older = get.name("type", "default", ROPE_TYPES)
    kind = get.name("rope_type", older, ROPE_TYPES)
    get.refuse(ROPE_NEUTRAL, "this engine does not know that variant")
    if kind == "default":
        return RopeScaling()
    if kind == "linear":
        return RopeScaling(kind="linear", factor=get.number("factor"))
    if original is not None:
        get = Fields({**get.values, "original_max_position_embeddings": original}, get.path)
    trained = get.context("original_max_position_embeddings", context)
    if kind == "yarn":
        return yarn(get, trained, context)
    low = get.number("low_freq_factor")
    return RopeScaling(
        kind="llama3",
        factor=get.number("factor"),
        original_context=trained,
        low_freq_factor=low,
        high_freq_factor=get.number("high_freq_factor", above=low),
    )


def yarn(get: Fields, original: int, context: int) -> RopeScaling:
    factor = get.number("factor", context / original)
    sharpen = yarn_attention_factor(factor)
    top, bottom = get.optional_number("mscale"), get.optional_number("mscale_all_dim")
    if top and bottom:
        more = sharpen - 1.0
        sharpen = (top * more + 1.0) / (bottom * more + 1.0)
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_context=original,
        beta_fast=get.number("beta_fast", 32.0),
        beta_slow=get.number("beta_slow", 1.0),
        attention_factor=get.number("attention_factor", sharpen),
        truncate=get.flag("truncate", True),
    )
