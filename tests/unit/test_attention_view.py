"""What a head looks at, against the naive backend, and answers that go on meanwhile."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pellucid import LLM, SamplingParams
from pellucid.attention import AttentionShape
from pellucid.attention.naive import attend_row, weigh
from pellucid.engine import Engine
from pellucid.errors import InputError
from pellucid.explore import heads
from pellucid.explore.attention import AttentionWish, show_attention
from pellucid.explore.flash import choose
from pellucid.request import Output, Request

OPTIONS: dict[str, Any] = {
    "load_format": "dummy", "dtype": "float32", "device": "cpu", "num_blocks": 24,
    "block_size": 8, "max_seqs": 3,
}  # fmt: skip
IDS = tuple((7 * n * n + 3) % 96 for n in range(41))


@pytest.fixture(scope="module")
def llm(tiny_folder: Path) -> LLM:
    return LLM(str(tiny_folder), **OPTIONS)


def full(rows: list[list[float]]) -> torch.Tensor:
    """The triangle as a square."""
    square = torch.zeros(len(rows), len(rows))
    for i, row in enumerate(rows):
        square[i, : len(row)] = torch.tensor(row)
    return square


@pytest.mark.parametrize("backend", ["flash", "sdpa", "naive"])
def test_a_head_is_its_softmax_whatever_serves(llm: LLM, backend: str) -> None:
    llm.switch(attention=backend)
    view = show_attention(llm.engine, AttentionWish(token_ids=IDS, layer=1, head=3, tiles=True))
    assert (view["kv_head"], view["group"], view["backend"]) == (1, 2, backend)
    assert view["difference"]["head"] <= view["difference"]["layer"] < 1e-5
    weights = full(view["matrix"]["max"])
    torch.testing.assert_close(weights.sum(1), torch.ones(len(IDS)), atol=1e-5, rtol=0)
    assert view["flash"]["error"] < 1e-5 and view["flash"]["error_to_backend"] < 1e-4
    first = torch.tensor(view["first"])
    torch.testing.assert_close(first, weights[:, 0])
    for row, named in zip(weights, view["top"], strict=True):
        assert [weight for _, weight in named] == sorted((w for _, w in named), reverse=True)
        assert named[0][1] == pytest.approx(row.max().item(), abs=1e-6)
        assert all(row[place].item() == pytest.approx(w, abs=1e-6) for place, w in named)


def test_the_weights_times_values_are_the_naive_backend_s() -> None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(size, generator=draw) for size in ((9, 4, 8), (2, 12, 8), (2, 12, 8)))
    for shape in (AttentionShape(0.3), AttentionShape(0.3, window=3, softcap=5.0)):
        found = weigh(q, k, shape) @ v.repeat_interleave(2, 0)
        expected = attend_row(q, k, v, shape).transpose(0, 1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(num=st.integers(1, 600), window=st.sampled_from([0, 1, 7, 300]), seed=st.integers(0, 99))
def test_pictures_add_up(num: int, window: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    q, k = torch.randn(num, 1, 4, generator=draw), torch.randn(1, num, 4, generator=draw)
    weights = weigh(q, k, AttentionShape(1.0, window))[0]
    shown = heads.picture(weights, window)
    edge = shown["edge"]
    assert edge == -(-num // 256) and len(shown["max"]) == -(-num // edge)
    last = num % edge or edge  # tokens of the last tile
    corner = weights[-last:, -last:]
    assert shown["max"][-1][-1] == pytest.approx(corner.max().item(), abs=1e-6)
    if edge > 1:
        block = weights[:edge, :edge]
        seen = torch.ones(edge, edge).tril()
        if window:
            seen = seen.triu(1 - window)
        assert shown["mean"][0][0] == pytest.approx((block.sum() / seen.sum()).item(), abs=1e-5)
    mass = heads.mass(weights)
    assert sum(mass["mean"]) == pytest.approx(1, abs=1e-3)
    assert mass["rows"][-1][0] == pytest.approx(weights[-1, -1].item(), abs=1e-4)
    for row in mass["rows"]:
        assert sum(row) == pytest.approx(1, abs=1e-3)
    small = heads.thumbnails(weights[None])
    assert len(small["heads"][0]) == small["edge"] ** 2 == min(24, num) ** 2
    assert max(small["heads"][0]) == pytest.approx(255 * weights.max().sqrt().item(), abs=1)


def test_a_window_is_seen(tiny_folder: Path) -> None:
    """A layer with a sliding window: nothing is weighed before it, and its tiles are skipped."""
    llm = LLM(str(tiny_folder), **OPTIONS)
    parts = llm.engine.parts
    spec = dataclasses.replace(parts.spec, sliding_window=6, local_layers=(True, False))
    object.__setattr__(parts, "spec", spec)
    for layer in parts.model.layers:
        layer.shape = AttentionShape(spec.scale, spec.window(layer.index))
    wish = AttentionWish(token_ids=IDS, tiles=True, block_m=4, block_n=4)
    view = show_attention(llm.engine, wish)
    assert (view["window"], view["windows"]) == (6, [6, 0])
    weights = full(view["matrix"]["max"])
    assert not weights.tril(-6).any() and weights.diagonal(-5).all()
    kinds = {tile["skipped"] for tile in view["flash"]["tiles"]}
    assert kinds == {"", "after", "before"} and view["flash"]["error_to_backend"] < 1e-5


def test_thumbnails_are_of_all_heads(llm: LLM) -> None:
    view = show_attention(llm.engine, AttentionWish(token_ids=IDS, layer=1, thumbnails=True))
    small = view["thumbnails"]
    assert small["edge"] == 24
    assert [len(layer) for layer in small["heads"]] == [4, 4] == [len(x) for x in small["first"]]
    assert "thumbnails" not in show_attention(llm.engine, AttentionWish(token_ids=IDS))


def test_the_course_of_a_row_and_the_bill(llm: LLM) -> None:
    wish = AttentionWish(token_ids=IDS, tiles=True, block_m=8, block_n=16, row=20)
    flash = show_attention(llm.engine, wish)["flash"]
    assert (flash["block_m"], flash["block_n"], flash["source"]) == (8, 16, "chosen")
    assert len(flash["tiles"]) == 6 * 3
    assert [step["keys"] for step in flash["course"]] == [(0, 16), (16, 32), (32, 41)]
    assert [step["skipped"] for step in flash["course"]] == ["", "", "after"]
    assert flash["course"][0]["rescale"] == 0.0, "nothing was summed before"
    for bytes_moved in (flash["bytes_tiled"], flash["bytes_written"]):
        assert bytes_moved == sorted(bytes_moved)
    dim = 8
    square, ends = 4 * 4 * 41 * 41, 4 * 41 * dim * 4
    assert flash["bytes_written"][-1] == square + ends
    visited = sum(t["keys"][1] - t["keys"][0] for t in flash["tiles"] if not t["skipped"])
    assert flash["bytes_tiled"][-1] == 2 * 41 * dim * 4 + 2 * visited * dim * 4


def test_the_kernel_s_tile_in_queries_of_one_head() -> None:
    tiling = choose(500, 0, 0, (128, 64), 3)
    assert (tiling.block_m, tiling.block_n, tiling.source) == (42, 64, "kernel")
    assert choose(500, 0, 0, None, 3).source == "even"
    mixed = choose(500, 8, 0, (128, 64), 3)
    assert (mixed.block_m, mixed.block_n, mixed.source) == (8, 64, "chosen")
    with pytest.raises(InputError, match="take larger ones"):
        choose(500, 1, 1, None, 3)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"token_ids": ()}, "the text is empty"),
        ({"token_ids": (1,) * 129}, "has 129 tokens, and this view takes 128 at most"),
        ({"token_ids": (96,)}, "token id 96 is not in the vocabulary"),
        ({"layer": 2}, "layer must be from 0 to 1, not 2"),
        ({"head": -1}, "head must be from 0 to 3, not -1"),
        ({"row": 41}, "row must be from 0 to 40, not 41"),
        ({"block_m": -1}, "block_m must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(llm: LLM, wish: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        show_attention(llm.engine, AttentionWish(**{"token_ids": IDS, **wish}))


@pytest.mark.parametrize("overlap", ["off", "on"])
@pytest.mark.parametrize("backend", ["flash", "naive"])
def test_answers_being_made_are_not_disturbed(
    tiny_folder: Path, backend: str, overlap: str
) -> None:
    """The same tokens, drawn and greedy, with a look between any two steps."""
    options = {**OPTIONS, "attention": backend, "overlap": overlap}
    engine = LLM(str(tiny_folder), **options).engine
    alone, meanwhile = answers(engine, looks=False), answers(engine, looks=True)
    assert alone == meanwhile


def answers(engine: Engine, looks: bool) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for n in range(5):
        params = SamplingParams(max_tokens=14, ignore_eos=True, temperature=0.8 * (n % 2), seed=n)
        engine.add(Request(id=str(n), prompt_token_ids=list(IDS[n : 4 * n + 3]), params=params))
    while engine.has_work:
        outputs: list[Output] = engine.step()
        if looks:
            show_attention(engine, AttentionWish(token_ids=IDS, thumbnails=True, tiles=True))
        for output in outputs:
            found.setdefault(output.request_id, []).extend(output.token_ids)
    return found


def test_on_the_default_model(smollm2_path: Path) -> None:
    """The real model in float32: every layer's weights give what the serving kernel gives."""
    llm = LLM(str(smollm2_path), dtype="float32", num_blocks=64)
    tokenizer = llm.engine.checkpoint.tokenizer
    assert tokenizer
    ids = tuple(tokenizer.encode("The quick brown fox jumps over the lazy dog. " * 4))
    for layer in (0, 13, 29):
        view = show_attention(
            llm.engine, AttentionWish(token_ids=ids, layer=layer, head=7, tiles=True)
        )
        assert (view["kv_head"], view["group"]) == (2, 3)
        assert view["difference"]["layer"] < 1e-4
        assert view["flash"]["error"] < 1e-5 and view["flash"]["error_to_backend"] < 1e-4
        rows = full(view["matrix"]["max"]).sum(1)
        torch.testing.assert_close(rows, torch.ones(len(ids)), atol=1e-5, rtol=0)
