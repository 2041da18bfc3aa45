#!/usr/bin/env python
"""Golden log-probabilities of small random models of every family, made with transformers.

    python tests/golden/make_families.py > tests/golden/families.json

Needs transformers and torch. Each case is a configuration that turns on what the family has of its
own: scaled rotations or layers without any, biases, norms on q and k, sliding windows, tied heads.
The file holds the config.json, the names and shapes of the weights (their values: families.py) and
the log-probability of every token of the prompt given those before it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import transformers
from families import PROMPT, weight
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def rope(kind: str, **rest: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1000.0, **rest}}


CASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False, **rope("default")},
    "llama-biased": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama3-rope": {
        "model_type": "llama",
        **rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    },
    "linear-rope": {"model_type": "llama", **rope("linear", factor=4.0)},
    "yarn-rope": {
        "model_type": "llama",
        **rope("yarn", factor=4.0, original_max_position_embeddings=16),
    },
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "sliding_window": 10},
    "smollm3": {"model_type": "smollm3", "num_hidden_layers": 5},
    "smollm3-biased": {
        "model_type": "smollm3",
        "tie_word_embeddings": False,
        "attention_bias": True,
        "mlp_bias": True,
        "no_rope_layers": [0, 1, 0],
        "use_sliding_window": True,
        "sliding_window": 10,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 6,
        "sliding_window": 8,
        "query_pre_attn_scalar": 20,
        "tie_word_embeddings": True,
    },
}


@torch.no_grad()
def case(name: str, options: dict[str, Any]) -> dict[str, Any]:
    options = {**SMALL, **options}
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    family = "gemma." if "gemma" in config.model_type else ""
    shapes = {}
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    for key, value in model.state_dict().items():
        if key not in tied:
            value.copy_(weight(family + key, list(value.shape)))
            shapes[key] = list(value.shape)
    logprobs = torch.log_softmax(model(torch.tensor([PROMPT])).logits[0], -1)
    scores = [logprobs[i, token].item() for i, token in enumerate(PROMPT[1:])]
    print(name, sum(scores) / len(scores), file=sys.stderr)
    record = json.loads(config.to_json_string(use_diff=False))
    record["architectures"] = [type(model).__name__]
    return {"config": record, "family": family, "shapes": shapes, "logprobs": scores}


if __name__ == "__main__":
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    cases = {name: case(name, options) for name, options in CASES.items()}
    json.dump({"versions": versions, "cases": cases}, sys.stdout, indent=1)
    print()
