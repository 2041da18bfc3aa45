"""The ablation: what it compares, and that every figure has its place in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pellucid import features
from pellucid.cli import main
from pellucid.config import EngineConfig
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.explore import ablate, arms, waterfall
from pellucid.explore.ablate_table import table, title
from pellucid.features import FEATURES, Feature
from pellucid.model.checkpoint import open_checkpoint

SIZES = ["--prompt-len", "8", "--output-len", "6", "--num-prompts", "3", "--repeats", "1"]
DUMMY = ["--load-format", "dummy", "--device", "cpu", "--num-blocks", "64", "--threads", "1"]


def tiny(folder: Path, **options: Any) -> EngineConfig:
    given = {"load_format": "dummy", "device": "cpu", "num_blocks": 64, "threads": 1}
    return EngineConfig(model=str(folder), **{**given, **options})


def all_on() -> dict[str, str]:
    """A machine that has everything."""
    return {f.key: next(c for c in f.choices if c != f.off) for f in FEATURES}


def switch(key: str, *conflicts: str) -> Feature:
    return FEATURES[0]._replace(key=key, choices=("on", "off"), off="off", conflicts=conflicts)


# --- which configurations ----------------------------------------------------------------------


def test_every_switch_is_turned_off_once_and_then_all() -> None:
    variants, skipped = ablate.plan(all_on())
    assert not skipped
    assert [v.name for v in variants] == [f.key for f in FEATURES] + [ablate.ALL_OFF]
    for variant, feature in zip(variants, FEATURES, strict=False):
        assert variant.changes[feature.key] == feature.off
    assert variants[-1].changes == {f.key: f.off for f in FEATURES}


def test_a_switch_that_is_off_already_is_skipped_with_a_reason() -> None:
    settings = {**all_on(), "kv_cache": "off"}
    variants, skipped = ablate.plan(settings)
    assert "kv_cache" not in [v.name for v in variants]
    assert [s["name"] for s in skipped] == ["kv_cache"]
    assert "off here already" in skipped[0]["reason"]
    everything_off = {f.key: f.off for f in FEATURES}
    variants, skipped = ablate.plan(everything_off)
    assert variants == []
    assert len(skipped) == len(FEATURES)


def test_what_does_not_work_without_a_switch_goes_off_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain = (switch("a"), switch("b", "a=off"), switch("c", "b=off"), switch("d"))
    for module in (features, ablate):
        monkeypatch.setattr(module, "FEATURES", chain)
    on = dict.fromkeys("abcd", "on")
    assert ablate.with_conflicts(on, "a") == {"a": "off", "b": "off", "c": "off"}
    assert ablate.with_conflicts(on, "d") == {"d": "off"}


def test_each_variant_of_the_real_switchboard_is_a_valid_configuration() -> None:
    for variant in ablate.plan(all_on())[0]:
        changed = arms.with_changes(EngineConfig(), variant.changes)
        features.check_conflicts({f.key: str(getattr(changed, f.key)) for f in FEATURES})


# --- measuring ---------------------------------------------------------------------------------


def test_the_report(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    argv = ["ablate", *SIZES, "--json", str(path), "--markdown", "--model", str(tiny_folder)]
    assert main([*argv, *DUMMY, "--fused-kernels", "off"]) == 0
    said = capsys.readouterr()
    record = json.loads(path.read_text())
    names = [row["name"] for row in record["rows"]]
    assert names[0] == "default"
    assert names[-1] == "all off"
    assert {"kv_cache", "batching", "chunked_prefill"} <= set(names)
    # Every switch is a row, or is left out with a reason.
    left_out = {skip["name"]: skip["reason"] for skip in record["skipped"]}
    assert {*names[1:-1], *left_out} == {f.key for f in FEATURES}
    assert not set(names) & set(left_out)
    assert "off here already" in left_out["fused_kernels"]
    assert "dense here already" in left_out["weights"]
    for row in record["rows"]:
        assert (
            row["batch_tok_s"]["min"] <= row["batch_tok_s"]["median"] <= row["batch_tok_s"]["max"]
        )
        assert row["single_ms_per_token"]["median"] > 0
        assert row["stages_ms"]["attention"] > 0
        assert sum(row["stages_ms"].values()) == pytest.approx(row["stages_wall_ms"], rel=0.1)
        assert row["output_len"] == {"batch": 6, "single": 6}
        assert not row["shortened"]
        assert all(4 < run["num_output"] <= 18 for run in row["runs"]["batch"])
    # The default runs once alone, and again in turns with each other configuration.
    assert len(record["controls"]["batch"]["medians"]) == len(names)
    assert len(record["rows"][0]["runs"]["single"]) == len(names)
    # On the way up every switch stands alone once, and each is added once.
    ups = [row["name"] for row in record["greedy"]]
    assert set(ups) == {row["name"] for row in record["alone"]} == {*names[1:-1]}
    assert len(ups) == len(set(ups))
    for row in (*record["alone"], *record["greedy"]):
        for side in ("batch", "single"):
            assert 0 < row[side]["lo"] <= row[side]["median"] <= row[side]["hi"]
    both = record["overstated"]
    assert f"multiply to {both['product_alone']:.1f}×" in said.out
    assert record["environment"]["cores"] >= 1
    for name in names[1:-1]:
        assert f"| `{name}`" in said.out
        assert f"{name}: " in said.err
    assert "- Not measured: weights: " in said.out


def test_a_time_limit_shortens_the_answers_and_says_so(tiny_folder: Path) -> None:
    config = tiny(tiny_folder)
    work = arms.ArmWorkload(
        num_prompts=2, prompt_len=8, output_len=100, repeats=1, limit_s=1e-3, temperature=0
    )
    arm = arms.Arm(config, open_checkpoint(config), work)
    found = arm.figures()
    arm.round(found, 1)
    assert found.batch.output_len == found.single.output_len == arms.SHORTEST
    assert [run.num_output for run in found.single.runs] == [2]
    arm.measure_stages(found)
    result = ablate.ablation_report(config, work, found, [], [])
    assert result["rows"][0]["shortened"]
    assert "shortened to fit into 0.001 s: answers of up to 2 (batch) and 2 (batch 1)" in table(
        result
    )


def test_what_cannot_run_here_is_left_out_by_name(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(config: EngineConfig, *rest: Any) -> Engine:
        if config.batching == "static":
            raise InputError("batching static: not on a Tuesday")
        return Engine(config, *rest)

    monkeypatch.setattr(arms, "Engine", refusing)
    said: list[str] = []
    work = arms.ArmWorkload(num_prompts=2, prompt_len=4, output_len=2, repeats=1)
    result = ablate.ablate(tiny(tiny_folder), work, said.append)
    reasons = {skip["name"]: skip["reason"] for skip in result["skipped"]}
    assert reasons["batching"] == reasons["all off"] == "batching static: not on a Tuesday"
    assert "batching: not measured, batching static: not on a Tuesday" in said
    assert "not on a Tuesday" in table(result)


def test_an_interrupt_keeps_what_was_measured(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(config: EngineConfig, *rest: Any) -> Engine:
        if config.batching == "static":
            raise KeyboardInterrupt
        return Engine(config, *rest)

    monkeypatch.setattr(arms, "Engine", stopping)
    work = arms.ArmWorkload(num_prompts=2, prompt_len=4, output_len=2, repeats=1)
    result = ablate.ablate(tiny(tiny_folder), work, lambda _: None)
    names = [row["name"] for row in result["rows"]]
    assert names[0] == "default" and "kv_cache" in names and "batching" not in names
    assert "the rest: interrupted" in table(result)


def test_the_best_goes_first_and_what_depends_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up gains: b 3×, a 2× alone but nothing beside b, c only with a."""
    chain = (switch("a"), switch("b"), switch("c", "a=off"))
    for module in (features, waterfall):
        monkeypatch.setattr(module, "FEATURES", chain)
    monkeypatch.setattr(waterfall, "Arm", lambda *_: object())
    monkeypatch.setattr(waterfall, "with_changes", lambda config, settings: config)

    class MadeUp(waterfall.Climb):
        def _gain(self, base: Any, key: str) -> Any:
            value = {"a": 1.0 if self.settings["b"] == "on" else 2.0, "b": 3.0, "c": 1.5}[key]
            return {"name": key, "gain": value}

    said: list[str] = []
    checkpoint: Any = None
    wanted = dict.fromkeys("abc", "on")
    up = MadeUp(EngineConfig(), checkpoint, arms.ArmWorkload(), wanted, said.append)
    up.run()
    found = up.report()
    assert [row["name"] for row in found["alone"]] == ["a", "b"]
    assert [row["name"] for row in found["greedy"]] == ["b", "a", "c"]
    assert found["overstated"] == {"product_alone": 6.0, "together": 3.0}
    assert said[0] == "0 on, a: 2.00x"


def test_what_gave_way_is_named() -> None:
    row: dict[str, Any] = {"name": "attention", "also": {"graphs": "off"}}
    assert title(row, markdown=True) == "`attention` (then also `graphs=off`)"
    assert title(row, markdown=False) == "attention (then also graphs=off)"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--output-len", "1"], "output_len must be at least 2, not 1"),
        (["--repeats", "0"], "repeats must be at least 1"),
        (["--limit-s", "0"], "limit_s must be above 0"),
        (["--top-p", "2"], "top_p must be between 0 and 1"),
        (["--prompt-len", "5000"], "the prompt has 5000 tokens"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_clear_line(
    argv: list[str], words: str, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", *argv, "--model", str(tiny_folder), *DUMMY]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
