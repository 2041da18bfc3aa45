"""`pellucid generate`: complete prompts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pellucid.cli.common import (
    add_config_flags,
    add_sampling_flags,
    config_from,
    open_out,
    sampling_from,
)
from pellucid.errors import InputError
from pellucid.llm import LLM, Prompt
from pellucid.request import to_builtins


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="text to complete")
    parser.add_argument(
        "--prompts-file",
        metavar="F.jsonl",
        help='a prompt per line: {"prompt": "..."} or {"prompt_token_ids": [...]}',
    )
    parser.add_argument(
        "--json", metavar="FILE", help="one object per answer and line; - is stdout"
    )
    add_sampling_flags(parser)
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    prompts: list[Prompt] = list(args.prompts)
    if args.prompts_file:
        prompts += read_prompts(Path(args.prompts_file))
    if not prompts:
        raise InputError("nothing to complete: give a prompt, or --prompts-file")
    sampling_from(args)  # refuses bad flags before the model is loaded
    llm = LLM.from_config(config_from(args))
    params = sampling_from(args, **llm.engine.checkpoint.sampling_defaults)
    if args.json:
        with open_out(args.json) as out:
            for output in llm.generate(prompts, params):
                out.write(json.dumps(to_builtins(output), ensure_ascii=False) + "\n")
        return 0
    if len(prompts) == 1 and params.n == 1:
        for piece in llm.stream(prompts[0], params):
            print(piece.text or _ids(piece.text, piece.token_ids), end="", flush=True)
        print()
        return 0
    for output in llm.generate(prompts, params):
        print(output.text or _ids(output.text, output.token_ids))
    return 0


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a JSON-lines file; `InputError` names the file, the line and the fault."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    return [_prompt(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]


def _prompt(line: str, where: str) -> Prompt:
    form = 'give {"prompt": "text"} or {"prompt_token_ids": [1, 2]}'
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}): {form}") from error
    match record:
        case {"prompt": str(text)} if len(record) == 1:
            return text
        case {"prompt_token_ids": list(ids)} if len(record) == 1:
            if all(type(token) is int for token in ids):
                return ids
    raise InputError(f"{where}: {form}")


def _ids(text: str, token_ids: list[int]) -> str:
    """Token ids for a model that came without a tokenizer, and so has no text to show."""
    return "" if text else "".join(f"{token} " for token in token_ids)
