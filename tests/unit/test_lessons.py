"""docs/learn: exercises fail as they are given and pass as they are answered, commands run, and no
page can be made of a figure or a line that is not there."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

import page_lessons
from pellucid.cli import main
from pellucid.explore import measure as measuring

ROOT = Path(__file__).parents[2]
EXERCISES = ROOT / "docs" / "learn" / "exercises"
LESSONS = sorted(path.parent.name for path in EXERCISES.glob("*/starter.py"))
BLOCK = re.compile(r"^```console\n(.*?)^```", re.M | re.S)
EXAMPLES = [
    example.split("\n", 1)
    for page in sorted((ROOT / "docs" / "learn").glob("*.md"))
    for block in BLOCK.findall(page.read_text(encoding="utf-8"))
    for example in re.split(r"^\$ ", block, flags=re.M)[1:]
]
"""Commands of the lessons, with what they are said to print."""
SHORTER = {"--lengths": "16,40", "--blocks": "1", "--max-seconds": "1", "--repeats": "1"}
"""Options that make a measurement short."""


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def verdict(lesson: str, *arguments: str) -> int:
    status: int = module(EXERCISES / "check.py").main([lesson, *arguments])
    return status


def test_every_lesson_has_an_exercise_and_its_check_is_known() -> None:
    pages = {path.stem for path in page_lessons.pages()} - {"index"}
    assert pages == set(LESSONS) == set(module(EXERCISES / "check.py").LESSONS)


@pytest.mark.model
@pytest.mark.parametrize("lesson", LESSONS)
def test_an_exercise_fails_as_given_and_passes_as_answered(
    lesson: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(lesson) == 1
    assert f"{lesson}: not yet" in capsys.readouterr().out
    assert verdict(lesson, "--answer") == 0
    assert f"{lesson}: passed" in capsys.readouterr().out


def test_a_wrong_answer_is_told_from_a_right_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = (EXERCISES / "flash_attention" / "answer.py").read_text(encoding="utf-8")
    for right, wrong, check in (
        ("rescale * acc", "acc", "So do many tiles"),
        ("range(0, last, tile)", "range(0, n, tile)", "Tiles that every query"),
        ("s.amax(1, keepdim=True)", "0 * s[:, :1]", "Scores of several thousand"),
    ):
        assert right in answer
        (tmp_path / "mine.py").write_text(answer.replace(right, wrong))
        assert verdict("flash_attention", str(tmp_path / "mine.py")) == 1
        assert f"not yet  {check}" in capsys.readouterr().out
    (tmp_path / "mine.py").write_text("def")
    assert verdict("flash_attention", str(tmp_path / "mine.py")) == 1
    assert "mine.py cannot be read: SyntaxError" in capsys.readouterr().out


def test_the_sketch_of_a_cache_is_wrong_where_the_lesson_says() -> None:
    sketch = module(EXERCISES / "kv_caching" / "sketch.py")
    assert sketch.wrong_behind() == []
    behind_the_prompt = list(range(sketch.PROMPT + 1, sketch.LENGTH + 1))
    assert sketch.wrong_behind(caches_output=True) == behind_the_prompt
    assert sketch.wrong_behind(projects_twice=True) == list(range(1, sketch.LENGTH + 1))
    assert "k_proj" in sketch.missing("k_proj") and "v_proj" in sketch.missing("v_proj")


@pytest.mark.model
def test_the_commands_of_the_lessons_run(
    tmp_path: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Measurements on a tiny model and few lengths; what else is shown is what is printed."""
    monkeypatch.chdir(ROOT)
    limits = {"read_bytes_s": 1e10, "matmul_flop_s": 1e11}  # probing them takes seconds
    monkeypatch.setattr(measuring, "measure_limits", lambda device, dtype, between: limits)
    monkeypatch.setattr("pellucid.process.own_process", lambda: None)  # this process is pytest's
    tiny = ["--model", str(tiny_folder), "--load-format", "dummy"]
    ran = set()
    for words, shown in EXAMPLES:
        argv = [w if w != "run.json" else str(tmp_path / w) for w in shlex.split(words)]
        for option, value in SHORTER.items():
            if option in argv:
                place = argv.index(option) + 1
                end = next((n for n in range(place, len(argv)) if argv[n][0] == "-"), len(argv))
                argv[place:end] = value.split(",") if argv[0] == "python" else [value]
        if "measure" in argv or "bench/kv_cache.py" in argv:
            argv += tiny
        if "check.py" in words and not shown:
            continue  # the tests above
        if argv[0] == "pellucid":
            assert main(argv[1:]) == 0, words
        else:
            monkeypatch.setattr(sys, "argv", argv[1:])
            try:
                runpy.run_path(argv[1], run_name="__main__")
            except SystemExit as stop:
                assert stop.code in (0, 1), words
        printed = capsys.readouterr().out
        assert not shown or printed.rstrip("\n") == shown.rstrip("\n"), words
        ran.add(argv[1])
    assert {"generate", "measure", "crossover", "bench/kv_cache.py"} < ran


@pytest.mark.parametrize(
    "text",
    [
        '{{ cpu.ms("decode", 65) }}',
        '{{ gpu.median("attn_1k_tflops") }}',
        "{{ cache.ms('on', 100) }}",
        "{{ without('spells') }}",
        '{{ code("engine.py", "Engine.leap") }}',
        '{{ code("engine.py", "Engine.step", "no such line") }}',
        '{{ source("nowhere.json") }}',
        "{{ nothing }}",
    ],
)
def test_what_is_not_there_cannot_be_quoted(text: str) -> None:
    with pytest.raises(Exception, match=r"has no|no 'attn|attn_1k|there is no|undefined"):
        page_lessons.render(text)


def test_a_link_leads_to_the_line() -> None:
    link = page_lessons.code("engine.py", "Engine.step")
    number = int(link.partition("#L")[2].rstrip(")"))
    lines = (ROOT / "src" / "pellucid" / "engine.py").read_text(encoding="utf-8").splitlines()
    assert lines[number - 1] == "    def step(self) -> list[Output]:"


def test_no_figure_of_a_measurement_is_typed_by_hand() -> None:
    """A number with a unit of measurement stands in a lesson's template only as an expression."""
    measured = re.compile(r"[\d.,]+ ?(?:ms|µs|MiB|GiB|GB/s|TFLOP/s|tokens/s|×)(?!\w)")
    for path in page_lessons.TEMPLATES.glob("*.md"):
        text = re.sub(r"\{\{.*?\}\}", "", path.read_text(encoding="utf-8"))
        assert measured.findall(text) == [], path
