"""Make the golden files: what an independent implementation says to the same weights.

Problem: an engine that is subtly wrong (a rotation off by one, a window off by one, a norm in the
wrong place) still writes fluent text. Only token-for-token agreement with another implementation,
on prompts that reach the odd corners, shows that it is right.

Idea: Hugging Face `transformers` reads the same GGUF file, expands it to float32 and decodes 32
tokens greedily for each prompt below, going on past end-of-sequence tokens. Kept are the prompt's
token ids, the answer's ids, the float32 log-probability of each, the five most likely tokens of
each step, and the gap between the first two: where it is tiny, arithmetic order alone may flip a
token. The ids of the prompts come from llama.cpp, because the conversion by `transformers` loses
SmolLM2's rule that splits digits off; the test feeds ids, so tokenization plays no part in it.

Trade-off: the oracle may itself be wrong, so each prompt is run twice: step by step through the KV
cache with eager attention, and whole, without a cache, with fused attention. The two must choose
the same tokens, and the largest difference between their log-probabilities is the oracle's own
noise, kept in the file as `noise`.

Run in an environment of its own (the engine needs none of this):

    pip install torch transformers accelerate gguf llama-cpp-python jinja2
    python tests/golden/make_golden.py smollm2     FILE.gguf
    python tests/golden/make_golden.py gemma3-270m FILE.gguf
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

import gguf
import jinja2
import torch
from llama_cpp import Llama
from transformers import AutoModelForCausalLM

NUM_TOKENS = 32
NUM_TOP = 5
MAX_NOISE = 5e-4

CODE = '''\
def merge(left: list[int], right: list[int]) -> list[int]:
    """Merge two sorted lists into one sorted list."""
    result = []
    i = j = 0
    while i < len(left) and j < len(right):
'''

PROMPTS: dict[str, str] = {
    "prose": "The lighthouse keeper had not spoken to anyone for three weeks when, one evening in",
    "instruction": "A short list of things to pack for a week in the mountains:\n\n1.",
    "code": CODE,
    "sql": "-- customers who ordered more than twice last year\nSELECT c.name, COUNT(*) AS n\nFROM",
    "json": '{"name": "Ada Lovelace", "born": 1815, "known_for": ["',
    "maths": "If 3x + 7 = 22, then x = 5, because 3 * 5 = 15 and 15 + 7 = 22.\n"
    "If 4x - 9 = 31, then",
    "digits": "1 1 2 3 5 8 13 21 34 55 89 144 233",
    "german": "Der Zug nach München fährt um 7:45 Uhr ab; wer zu spät kommt,",
    "russian": "Москва — столица России, а самый большой город Сибири",
    "chinese": "中国的首都是北京，日本的首都是东京，法国的首都是",
    "japanese": "むかしむかし、あるところに、おじいさんと",
    "korean": "서울은 대한민국의 수도이며, 부산은",
    "arabic": "القاهرة هي عاصمة مصر، والرباط هي عاصمة",
    "hindi": "भारत की राजधानी नई दिल्ली है और",
    "thai_greek_hebrew": "กรุงเทพ Αθήνα ירושלים are the capitals of",
    "emoji": "Weather today: ☀️🌤️⛅🌧️. Mood: 😀😅😭👩‍👩‍👧‍👦🏳️‍🌈. Food: 🍕🍣",
    "whitespace": "a\n\n\n\n        b\t\t\tc" + " " * 40 + "d\r\n\r\n      \t  e\n" + " " * 24,
    "repetition": "one two three " * 12,
}

CHATS: dict[str, list[dict[str, str]]] = {
    "chat": [{"role": "user", "content": "What is the capital of France, and why is it famous?"}],
    "chat_system": [
        {"role": "system", "content": "You are a pirate. Answer in one sentence."},
        {"role": "user", "content": "How do I sort a list in Python?"},
    ],
    "chat_turns": [
        {"role": "user", "content": "My name is Mira and I have 3 cats."},
        {"role": "assistant", "content": "Nice to meet you, Mira! What are your cats called?"},
        {"role": "user", "content": "Tom, Jerry and Łódź 🐈. How many cats do I have?"},
    ],
}


def station_log(days: int) -> str:
    """A long text in which what comes next depends on what stood hundreds of tokens before."""
    winds = ("north", "north-west", "west", "south-west", "south", "east")
    keepers = ("Anna", "Piet", "Marisol", "Tomasz")
    lines = ["Log of the lighthouse at Cape Sorrow. The password of the store is 'heron'."]
    for day in range(1, days + 1):
        wind, keeper = winds[day * day % len(winds)], keepers[day * 7 % len(keepers)]
        lines.append(
            f"Day {day}: wind from the {wind}, {day * 13 % 9 + 1} ships seen, "
            f"{100 - 3 * day} barrels of oil left; {keeper} kept the watch."
        )
    return "\n".join([*lines, "Question: what is the password of the store? Answer: the password"])


def prompt_ids(tokenizer: Llama, path: Path) -> dict[str, tuple[str, list[int]]]:
    """Name → (text, token ids), tokenized as the file's own metadata says."""

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.tokenize(text.encode(), add_bos=True, special=True)
        return ids

    texts = dict(PROMPTS)
    template = gguf.GGUFReader(path).get_field("tokenizer.chat_template")
    if template:
        render = jinja2.Environment().from_string(template.contents()).render
        for name, messages in CHATS.items():
            texts[name] = render(messages=messages, add_generation_prompt=True)
    texts["long"] = station_log(32)
    prompts = {name: (text, encode(text)) for name, text in texts.items()}

    # Decoding from 500 on walks across the border of a sliding window of 512.
    cut = prompts["long"][1][:500]
    prompts["cut_500"] = (tokenizer.detokenize(cut).decode(), cut)
    first = encode("The")[:1]
    prompts["single_token"] = (tokenizer.detokenize(first).decode(), first)
    return prompts


@torch.inference_mode()
def greedy(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits of NUM_TOKENS greedy steps through the KV cache: float32 [steps, vocabulary]."""
    rows, cache, tokens = [], None, torch.tensor([ids])
    for _ in range(NUM_TOKENS):
        out = model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        rows.append(out.logits[0, -1])
        tokens = rows[-1].argmax().view(1, 1)
    return torch.stack(rows)


@torch.inference_mode()
def whole(model: Any, ids: list[int], answer: list[int]) -> torch.Tensor:
    """The same logits from one pass over prompt and answer, without a cache."""
    tokens = torch.tensor([ids + answer[:-1]])
    logits: torch.Tensor = model(tokens, use_cache=False, logits_to_keep=len(answer)).logits[0]
    return logits


def record(model: Any, name: str, text: str, ids: list[int]) -> dict[str, Any]:
    """One prompt's entry of the golden file."""
    model.set_attn_implementation("eager")
    logprobs = greedy(model, ids).double().log_softmax(-1)
    chosen = logprobs.argmax(-1)
    model.set_attn_implementation("sdpa")
    again = whole(model, ids, chosen.tolist()).double().log_softmax(-1)
    top = logprobs.topk(NUM_TOP)
    noise = (again.gather(1, top.indices) - top.values).abs().max().item()
    if not torch.equal(again.argmax(-1), chosen) or noise > MAX_NOISE:
        print(f"warning: {name}: the oracle disagrees with itself by {noise:.1e}", file=sys.stderr)
    gaps = top.values[:, 0] - top.values[:, 1]
    return {
        "name": name,
        "prompt": text,
        "prompt_token_ids": ids,
        "token_ids": chosen.tolist(),
        "logprobs": [round(v, 6) for v in top.values[:, 0].tolist()],
        "top": [
            [[token, round(value, 6)] for token, value in zip(*step, strict=True)]
            for step in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ],
        "gaps": [round(v, 6) for v in gaps.tolist()],
        "min_gap": round(gaps.min().item(), 6),
        "noise": float(f"{noise:.2g}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a golden file from a GGUF file.")
    parser.add_argument("alias", help="name of the golden file, without .json")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    tokenizer = Llama(str(args.gguf), vocab_only=True, verbose=False)
    model = AutoModelForCausalLM.from_pretrained(
        args.gguf.parent, gguf_file=args.gguf.name, dtype=torch.float32
    ).eval()
    entries = []
    for name, (text, ids) in prompt_ids(tokenizer, args.gguf).items():
        entry = record(model, name, text, ids)
        answer = tokenizer.detokenize(entry["token_ids"]).decode(errors="replace")
        figures = f"gap {entry['min_gap']:.6f}  noise {entry['noise']:.1e}"
        print(f"{name:18} {len(ids):4} tokens  {figures}  {answer!r}", flush=True)
        entries.append(entry)

    packages = ("transformers", "torch", "gguf", "llama-cpp-python")
    header = {
        "model": args.alias,
        "file": args.gguf.name,
        "sha256": hashlib.sha256(args.gguf.read_bytes()).hexdigest(),
        "command": f"python tests/golden/make_golden.py {args.alias} {args.gguf.name}",
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        },
        "dtype": "float32",
        "config": model.config.to_diff_dict(),
    }
    # One prompt a line, so that a change to one shows as one line in a diff.
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    head = json.dumps(header, ensure_ascii=False)[:-1]
    target = Path(__file__).parent / f"{args.alias}.json"
    target.write_text(f'{head},\n"prompts": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"wrote {target.name}: {len(entries)} prompts")


if __name__ == "__main__":
    main()
