"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import gguf
import numpy as np
import pytest

from pellucid.cli import main
from pellucid.cli.common import parse_lengths
from pellucid.cli.generate import MAX_TOKENS
from pellucid.cli.parser import Parser
from pellucid.cli.sampling import sampling_from
from pellucid.cli.verbs import VERBS, build_parser, fill
from pellucid.features import FEATURES
from pellucid.model.hub import ALIASES
from pellucid.request import Output, SamplingParams

DUMMY = ["--load-format", "dummy", "--device", "cpu", "--num-blocks", "64"]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run; it must exit with 2 and say one line, which is returned."""
    try:
        status = main(argv)
    except SystemExit as stop:  # argparse's own refusals
        status = int(stop.code or 0)
    said = capsys.readouterr()
    assert status == 2, said.err
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    return line


def test_generate_writes_the_fields_of_output(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt_token_ids": [5, 6]}\n\n{"prompt_token_ids": [7]}\n')
    argv = ["generate", "--prompts-file", str(prompts), "--json", "-", "--model", str(tiny_folder)]
    options = ["--temperature", "0", "--max-tokens", "4", "--ignore-eos", "--logprobs", "2"]
    assert main([*argv, *options, *DUMMY]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["prompt_token_ids"] for line in lines] == [[5, 6], [7]]
    for line in lines:
        assert len(line["token_ids"]) == len(line["logprobs"]) == 4
        assert line["finish_reason"] == "length"
        assert line["stats"]["num_output_tokens"] == 4
        assert [e["token_id"] for e in line["logprobs"]] == line["token_ids"]


def test_text_of_several_prompts_comes_in_their_order(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pellucid.cli.generate import TextInOrder, ids_of

    out = TextInOrder(1, ids_of)
    for number, token in ((1, 11), (2, 12)):
        out.write(number, Output(request_id="", token_ids=[token]))
    assert capsys.readouterr().out == ""
    out.write(0, Output(request_id="", token_ids=[10]))
    assert capsys.readouterr().out.split() == ["10", "11", "12"]


class Interrupted:
    """An engine of three prompts: the second ends, then Ctrl-C."""

    def stream_all(self, *_: Any) -> Iterator[tuple[int, Output]]:
        yield 0, Output(request_id="a", token_ids=[5])
        yield 1, Output(request_id="b", token_ids=[6], text="six")
        yield 1, Output(request_id="b", token_ids=[7], text=" seven", finish_reason="stop")
        raise KeyboardInterrupt


def test_ctrl_c_keeps_the_answers_that_have_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pellucid.cli.generate import JsonLines, TextInOrder, complete, text_of

    llm: Any = Interrupted()
    file = tmp_path / "answers.jsonl"
    with file.open("w") as out:
        assert complete(llm, ["x"] * 3, SamplingParams(), JsonLines(out)) == 130
    (line,) = map(json.loads, file.read_text().splitlines())
    assert (line["request_id"], line["text"], line["token_ids"]) == ("1", "six seven", [6, 7])
    assert "interrupted: 1 of 3 answers are written" in capsys.readouterr().err

    assert complete(llm, ["x"] * 3, SamplingParams(), TextInOrder(1, text_of)) == 130
    assert capsys.readouterr().out == "six seven\n"


def test_generate_has_a_limit_of_its_own() -> None:
    given = build_parser(["generate"]).parse_args(["generate", "x"])
    assert sampling_from(given, max_tokens=MAX_TOKENS).max_tokens == 256
    given = build_parser(["generate"]).parse_args(["generate", "x", "--max-tokens", "-1"])
    assert sampling_from(given, max_tokens=MAX_TOKENS).max_tokens is None


class Ended(BaseException):
    """Instead of the end of the process."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os._exit` raises `Ended`, so that a test can look at it."""

    def end(status: int) -> NoReturn:
        raise Ended(status)

    monkeypatch.setattr("os._exit", end)


def test_ctrl_c_while_a_verb_is_imported_is_one_word(
    ends: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def importing(name: str) -> NoReturn:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the process goes on")

    monkeypatch.setattr("pellucid.cli.verbs.import_module", importing)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Ended, match="130"):
        main(["generate", "x"])
    assert capfd.readouterr().err == "interrupted\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_what_puts_things_away(
    ends: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(_: object) -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    monkeypatch.setattr("pellucid.cli.features.run", run)
    assert main(["features"]) == 130
    said = "interrupted\n"
    assert capfd.readouterr().err == said

    monkeypatch.setattr("sys.argv", ["pellucid", "features"])
    before = signal.getsignal(signal.SIGINT)
    try:
        assert main() == 130
        with pytest.raises(Ended, match="130"):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == said + said


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_help_and_every_example_parses(verb: str) -> None:
    parser = Parser(prog=verb)
    fill(parser, verb, full=True)
    for action in parser._actions:
        assert action.help or not action.option_strings, action.option_strings
    parser.format_help()
    lines = str(parser.epilog).splitlines()
    examples = [line.split("  ")[1] for line in lines if line.startswith("  pellucid ")]
    assert examples
    for example in examples:
        words = shlex.split(example)[1:]
        build_parser(words).parse_args(words)


def test_help_folds_what_is_seldom_needed(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, shown in (("--help", False), ("--help-all", True)):
        with pytest.raises(SystemExit, match="0"):
            main(["serve", flag])
        text = capsys.readouterr().out
        assert "--context-length" in text
        assert ("--fused-kernels" in text) == shown
    args = build_parser(["serve"]).parse_args(["serve", "--fused-kernels", "off"])
    assert args.fused_kernels == "off", "folded options work"


def test_without_a_verb_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "first steps" in capsys.readouterr().err
    for words in (["help", "pull"], ["pull", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(words)
        assert "usage: pellucid pull" in capsys.readouterr().out


def test_a_closed_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert main(["features"]) == 0


def test_lengths_may_be_in_units_of_1024() -> None:
    assert parse_lengths("64, 1k,2K") == (64, 1024, 2048)


def test_bench_reports_samples_medians_and_the_limit(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    sizes = ["--repeats", "2", "--prompt-len", "8", "--output-len", "4", "--num-prompts", "3"]
    argv = ["bench", "throughput", *sizes, "--json", str(report), "--model", str(tiny_folder)]
    assert main([*argv, *DUMMY]) == 0
    assert "decode" in capsys.readouterr().out
    record = json.loads(report.read_text())
    assert len(record["samples"]) == 2
    assert record["median"]["decode_tok_s"] > 0
    assert record["median"]["decode_limit_tok_s"] > 0
    assert record["environment"]["cores"] >= 1


def test_features_prints_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "--json", "-"]) == 0
    assert [row["key"] for row in json.loads(capsys.readouterr().out)] == [f.key for f in FEATURES]
    assert main(["features"]) == 0
    text = capsys.readouterr().out
    assert all(f.key in text for f in FEATURES)


def test_doctor_says_what_will_be_used_and_why(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["doctor", "--model", str(tiny_folder), "--load-format", "dummy", "--device", "cpu"]
    assert main([*asked, "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"python", "torch", "cpu", "memory", "CPU kernels", "model"} <= set(report["found"])
    settings = report["settings"]
    assert {f.key for f in FEATURES} | {"device", "dtype", "block_size"} <= set(settings)
    assert settings["graphs"]["value"] == "off"
    assert "need an NVIDIA GPU" in settings["graphs"]["why"]
    assert main([*asked, "--kv-cache", "off"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"kv_cache +off +asked for", shown)
    assert "need an NVIDIA GPU" in refused(capsys, *asked, "--graphs", "on")


def test_doctor_fetches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    for model in ("smollm2", "no-such-owner/no-such-model"):
        assert main(["doctor", "--model", model]) == 0
        assert f"run pellucid pull {model}" in capsys.readouterr().out
    assert not list(tmp_path.glob("models/*"))


def test_doctor_tells_a_torch_that_is_larger_than_need_be() -> None:
    from pellucid.cli.doctor import torch_bytes, torch_words

    assert torch_bytes() > 1e8
    assert "built for CUDA 13.0, 5.1 GB on disk" in torch_words("13.0", True, 5_100_000_000)
    assert "its CPU build of 0.8 GB would do" in torch_words("13.0", False, 5_100_000_000)
    assert "would do" not in torch_words(None, False, 800_000_000)


GENERATE: list[tuple[list[str], str]] = [
    (["generate"], "nothing to complete"),
    (["generate", "x", "--temperature", "-1"], "temperature must be between 0 and 100"),
    (["generate", "x", "--top-p", "2"], "top_p must be between 0 and 1"),
    (["generate", "x", "--model", "no/such/thing"], "no/such/thing"),
    (["generate", "x", "--model", "nosuchalias"], "nosuchalias"),
    (["generate", "x", "--model", "smolm2"], "Did you mean smollm2?"),
    (["generate", "x", "--colour", "red"], "unknown option --colour."),
    (["generate", "x", "--temprature", "1"], "Did you mean --temperature?"),
    (["generate", "x", "--attention", "fast"], "'fast' is not one of auto, flash, sdpa, naive"),
    (["generate", "x", "--attention", "Flsh"], "Did you mean flash?"),
    (["bench", "latncy"], "Did you mean latency?"),
    (["pull", "a", "b"], "unexpected argument 'b'"),
    (["measure", "--lengths", "1k,2kk"], "is no list of whole numbers such as 64,512,2k"),
    (["generate", "--prompts-file", "/no/such/file"], "cannot read /no/such/file"),
    (["generate", "x", "--logit-bias", "{"], "logit-bias"),
    (["bench", "latency", "--repeats", "0"], "repeats must be at least 1"),
    (["nonsense"], "'nonsense' is not one of serve, chat, generate"),
    (["serv"], "Did you mean serve?"),
]


@pytest.mark.parametrize(("argv", "words"), GENERATE, ids=lambda v: " ".join(v)[:40])
def test_bad_input_is_one_clear_line(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"prompt": "a"}\n{"prompt"', "line 2: not JSON"),
        (b'{"prompt": "a", "extra": 1}', "line 1: give"),
        (b'{"prompt_token_ids": ["a"]}', "line 1: give"),
        (b'{"prompt": "\xff"}', "is not UTF-8 text"),
    ],
    ids=str,
)
def test_a_bad_prompts_file_is_refused_with_its_line(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    assert words in refused(capsys, "generate", "--prompts-file", str(path))


def test_a_prompt_that_is_too_long_is_refused(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt_token_ids": [5] * 200}))
    argv = ["generate", "--prompts-file", str(path), "--model", str(tiny_folder)]
    assert "the prompt has 200 tokens" in refused(capsys, *argv, *DUMMY)


def test_bad_checkpoints_are_refused_by_name(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((tiny_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"architectures": ["MambaForCausalLM"]})
    )
    line = refused(capsys, "generate", "x", "--model", str(tmp_path), *DUMMY)
    assert "MambaForCausalLM" in line
    assert "LlamaForCausalLM" in line, "names the architectures that it knows"

    truncated = tmp_path / "cut.gguf"
    writer = gguf.GGUFWriter(truncated, "llama")
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    truncated.write_bytes(truncated.read_bytes()[:-100])
    line = refused(capsys, "generate", "x", "--model", str(truncated))
    assert str(truncated) in line

    pickled = tmp_path / "model.bin"
    pickled.write_bytes(b"\x80\x04")
    assert "safetensors" in refused(capsys, "generate", "x", "--model", str(pickled))


def test_a_cached_model_with_a_wrong_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    default = ALIASES["smollm2"]
    path = tmp_path / "models" / "smollm2" / default.file
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(default.size)
    line = refused(capsys, "generate", "x")
    assert default.sha256 in line
    assert str(path) in line
