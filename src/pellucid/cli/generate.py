"""`pellucid generate`: complete prompts.

All prompts are computed side by side. With --json each answer is written when it ends, so a long
file of prompts is worth something at any moment; Ctrl-C keeps what has ended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pellucid.cli import INTERRUPTED
from pellucid.cli.common import add_config_flags, config_from, open_out
from pellucid.cli.parser import Parser
from pellucid.cli.progress import Answers
from pellucid.cli.sampling import add_sampling_flags, sampling_from
from pellucid.errors import InputError
from pellucid.llm import LLM, Prompt
from pellucid.request import Output, SamplingParams, to_builtins

MAX_TOKENS = 256
FAILED = 1
"""The exit status when an answer ended by an error."""
EXAMPLES = """examples:
  pellucid generate "Once upon a time"
  pellucid generate "1, 1, 2, 3, 5," --temperature 0 --max-tokens 20
  pellucid generate --prompts-file prompts.jsonl --json answers.jsonl"""


def add_arguments(parser: Parser) -> None:
    parser.usage = "%(prog)s [PROMPT ...] [options]"
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="text to complete")
    parser.add_argument(
        "--prompts-file",
        metavar="F.jsonl",
        help='a prompt per line: {"prompt": "..."} or {"prompt_token_ids": [...]}',
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="a line of JSON for each answer as soon as it ends, whichever is first: request_id "
        "counts the prompts from 0, index a prompt's answers; - is stdout",
    )
    add_sampling_flags(parser, max_tokens=MAX_TOKENS)
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    prompts: list[Prompt] = list(args.prompts)
    if args.prompts_file:
        prompts += read_prompts(Path(args.prompts_file))
    if not prompts:
        raise InputError("nothing to complete: give a prompt, or --prompts-file")
    sampling_from(args)  # refuses bad flags before the model is loaded
    with open_out(args.json) if args.json else nullcontext() as file:
        llm = LLM.from_config(config_from(args))
        defaults = {"max_tokens": MAX_TOKENS} | llm.engine.checkpoint.sampling_defaults
        return answer(llm, prompts, sampling_from(args, **defaults), file)


def answer(llm: LLM, prompts: list[Prompt], params: SamplingParams, file: Any) -> int:
    """Complete the prompts: as JSON into `file`, or as text if there is none; the exit status."""
    if file is not None:
        return complete(llm, prompts, params, JsonLines(file))
    words = text_of if llm.engine.checkpoint.tokenizer else ids_of
    if len(prompts) > 1 or params.n > 1:
        return complete(llm, prompts, params, TextInOrder(params.n, words))
    error = None
    for piece in llm.stream(prompts[0], params):
        print(words(piece), end="", flush=True)
        error = piece.error
    print()
    if error is not None:
        print(f"the answer failed: {error}", file=sys.stderr)
    return FAILED if error is not None else 0


class JsonLines:
    """Answers as JSON lines, each when it ends."""

    def __init__(self, out: Any) -> None:
        self._out = out

    def write(self, number: int, answer: Output) -> None:
        record = to_builtins(answer) | {"request_id": str(number)}
        self._out.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._out.flush()

    def close(self) -> None:
        pass


class TextInOrder:
    """Answers as text for people, who cannot tell otherwise whose they are: in the order of the
    prompts, so an answer waits for those before it."""

    def __init__(self, n: int, words: Callable[[Output], str]) -> None:
        self._n = n
        self._words = words
        self._next = 0
        self._waiting: dict[int, str] = {}

    def write(self, number: int, answer: Output) -> None:
        self._waiting[number * self._n + answer.index] = self._words(answer)
        while self._next in self._waiting:
            print(self._waiting.pop(self._next), flush=True)
            self._next += 1

    def close(self) -> None:
        """After Ctrl-C: those that waited for one that will not come."""
        for _, text in sorted(self._waiting.items()):
            print(text, flush=True)


def complete(
    llm: LLM, prompts: list[Prompt], params: SamplingParams, out: JsonLines | TextInOrder
) -> int:
    """Complete the prompts side by side, each answer to `out` when it ends; the exit status."""
    total, num_failed = len(prompts) * params.n, 0
    with Answers(total) as progress:
        try:
            for number, answer in ended(llm, prompts, params, progress):
                with progress.aside():
                    out.write(number, answer)
                if answer.error is not None:
                    num_failed += 1
                    progress.say(f"an answer to prompt {number} failed: {answer.error}")
        except KeyboardInterrupt:
            out.close()
            progress.say(f"interrupted: {progress.num_ended} of {total} answers are written")
            return INTERRUPTED
    return FAILED if num_failed else 0


def ended(
    llm: LLM, prompts: list[Prompt], params: SamplingParams, progress: Answers
) -> Iterator[tuple[int, Output]]:
    """Number of the prompt, and the whole answer, as answers end."""
    open_answers: dict[tuple[int, int], Output] = {}
    for number, piece in llm.stream_all(prompts, params):
        key = number, piece.index
        empty = Output(request_id=piece.request_id, index=piece.index)
        open_answers.setdefault(key, empty).extend(piece)
        done = piece.finish_reason is not None
        progress.advance(len(piece.token_ids), done)
        if done:
            yield number, open_answers.pop(key)


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a JSON-lines file; `InputError` names the file, the line and the fault."""
    try:
        lines = path.read_text(encoding="utf-8").split(
            "\n"
        )  # within JSON there may be other line ends
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


def text_of(output: Output) -> str:
    return output.text


def ids_of(output: Output) -> str:
    """What there is to show of a model that came without a tokenizer."""
    return "".join(f"{token} " for token in output.token_ids)
