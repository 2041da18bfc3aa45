"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pellucid.cli import main
from pellucid.features import FEATURES
from pellucid.model.hub import ALIASES

DUMMY = ["--load-format", "dummy", "--device", "cpu", "--num-blocks", "64"]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run; it must exit with 2 and say one line."""
    try:
        status = main(argv)
    except SystemExit as stop:  # argparse's own refusals
        status = int(stop.code or 0)
    said = capsys.readouterr()
    assert status == 2, said.err
    assert said.out == ""
    return said.err.strip().splitlines()[-1]


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


def test_doctor_says_what_will_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"python", "torch", "cpu", "memory", "runs on", "CPU kernels", "model"} <= set(
        report["found"]
    )


GENERATE: list[tuple[list[str], str]] = [
    (["generate"], "nothing to complete"),
    (["generate", "x", "--temperature", "-1"], "temperature must be between 0 and 100"),
    (["generate", "x", "--top-p", "2"], "top_p must be between 0 and 1"),
    (["generate", "x", "--model", "no/such/thing"], "no/such/thing"),
    (["generate", "x", "--model", "nosuchalias"], "nosuchalias"),
    (["generate", "x", "--colour", "red"], "unrecognized arguments: --colour"),
    (["generate", "x", "--attention", "fast"], "invalid choice: 'fast'"),
    (["generate", "--prompts-file", "/no/such/file"], "cannot read /no/such/file"),
    (["generate", "x", "--logit-bias", "{"], "logit-bias"),
    (["bench", "latency", "--repeats", "0"], "repeats must be at least 1"),
    (["nonsense"], "invalid choice: 'nonsense'"),
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


class FakePieces:
    """A stream that the user interrupts after two pieces."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces, self.closed = iter(pieces), False

    def __iter__(self) -> FakePieces:
        return self

    def __next__(self) -> Any:
        piece = next(self.pieces)
        if piece is None:
            raise KeyboardInterrupt
        return piece

    def close(self) -> None:
        self.closed = True


def test_ctrl_c_stops_the_answer_and_not_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    from pellucid.cli.chat import answer
    from pellucid.request import Output, SamplingParams

    class FakeLLM:
        pieces = FakePieces([Output(request_id="0", text=t) for t in ("Hel", "lo")] + [None])

        def stream(self, *_: Any) -> FakePieces:
            return self.pieces

    llm = FakeLLM()
    assert answer(llm, [], SamplingParams()) == "Hello"  # type: ignore[arg-type]
    assert llm.pieces.closed
    assert "Hello [stopped]" in capsys.readouterr().out
