"""Drawing tokens without a sort: the same tokens as the twin, and the law that was asked for.

In the interpreter on a CPU, compiled on a GPU: `conftest.py` decides. Small chunks and few
registers make the steps for large vocabularies happen on small ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings

from pellucid.kernels.reference import sampling as twin
from pellucid.kernels.triton import chunks, sample, threshold
from pellucid.sampling import inversion

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SLOW: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}
Limits = tuple[int, float, float]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Chunks of 16 tokens, room for 80 values, 64 of them in the registers of 32 threads."""
    for module in (chunks, sample, threshold, twin):
        monkeypatch.setattr(module, "CHUNK", 16)
    monkeypatch.setattr(threshold, "_ROOM", 80)
    monkeypatch.setattr(threshold, "_HELD", 2)
    monkeypatch.setattr(threshold, "_SAMPLE", 32)
    monkeypatch.setattr(threshold, "_BINS", 32)
    monkeypatch.setattr(threshold, "_THREADS", 32)
    monkeypatch.setattr(threshold, "_WORKERS", 32)
    yield


def noise(device: str, rows: int, vocab: int, seed: int, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, vocab, generator=generator) * scale).to(device)


def some_keys(device: str, rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**63), 2**63 - 1, (rows,), generator=generator).to(device)


def column(values: list[Any], dtype: torch.dtype, device: str) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


def limits(several: list[Limits], device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    k, p, m = zip(*several, strict=True)
    return (
        column(list(k), torch.int32, device),
        column(list(p), torch.float32, device),
        column(list(m), torch.float32, device),
    )


def chi_squared(tokens: torch.Tensor, probs: torch.Tensor) -> float:
    """Of drawn tokens against probabilities; tokens expected less than 5 times count as one."""
    seen = torch.bincount(tokens.cpu(), minlength=len(probs)).double()
    want = probs.double().cpu() * len(tokens)
    assert not seen[want == 0].any()
    rare = want < 5
    seen = torch.cat((seen[~rare], seen[rare].sum()[None]))
    want = torch.cat((want[~rare], want[rare].sum()[None]))
    seen, want = seen[want > 0], want[want > 0]
    return float(((seen - want) ** 2 / want).sum() / (len(want) - 1))


# --- the random bits -------------------------------------------------------------------------


def test_philox_is_the_published_one() -> None:
    """Known answers of Random123 for Philox4x32-10; the second has a counter of all ones."""
    zero = torch.zeros(1, dtype=torch.int64)
    assert [int(w) for w in twin.philox(zero, zero)] == [0x6627E8D5, 0xE169C58D]


def test_noise_is_exponential_in_both_tails() -> None:
    """-log E: mean Euler's constant, variance π²/6, and the right number of tiny and large E."""
    number = 400_000
    noise = twin.gumbel(torch.tensor(7), torch.arange(number))
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)
    assert noise.var() == pytest.approx(1.6449, abs=0.03)
    for limit in (1e-4, 1e-3, 0.1, 3.0):
        want = number * -math.expm1(-limit)
        assert int((noise > -math.log(limit)).sum()) == pytest.approx(want, abs=5 * want**0.5)


# --- drawing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("vocab", [1, 40, 1025, 5000])
def test_tokens_are_those_of_the_twin(device: str, dtype: torch.dtype, vocab: int) -> None:
    wide = noise(device, 4, vocab + 3, vocab).to(dtype)
    logits = wide[:, :vocab]  # rows that are not aligned
    temperature = column([0.0, 0.3, 1.0, 5.0], torch.float32, device)
    keys = some_keys(device, 4)
    got = sample.choose(logits, temperature, keys)
    assert got.dtype == torch.int64
    assert got.tolist() == twin.choose(logits, temperature, keys).tolist()


@settings(max_examples=8, **SLOW)
@given(
    seed=st.integers(0, 999),
    vocab=st.integers(1, 90),
    cap=st.sampled_from([0.0, 5.0]),
    scale=st.sampled_from([0.5, 4.0, 30.0]),
)
def test_tokens_are_those_of_the_twin_over_several_chunks(
    small: None, device: str, seed: int, vocab: int, cap: float, scale: float
) -> None:
    logits = noise(device, 3, vocab, seed, scale)
    temperature = column([0.7, 1.0, 2.0], torch.float32, device)
    keys = some_keys(device, 3, seed)
    got = sample.choose(logits, temperature, keys, softcap=cap)
    assert got.tolist() == twin.choose(logits, temperature, keys, softcap=cap).tolist()


def test_greedy_is_the_first_maximum(small: None, device: str) -> None:
    logits = noise(device, 4, 70, 0).round()  # many ties
    logits[2] = 1.5
    logits[3, :69] = float("-inf")
    temperature = torch.zeros(4, device=device)
    got = sample.choose(logits, temperature, some_keys(device, 4))
    assert got.tolist() == logits.argmax(dim=-1).tolist()


def test_a_tiny_temperature_is_greedy(device: str) -> None:
    logits = noise(device, 2, 300, 1)
    temperature = column([1e-40, 1e-20], torch.float32, device)
    got = sample.choose(logits, temperature, some_keys(device, 2))
    assert got.tolist() == logits.argmax(dim=-1).tolist()


def test_impossible_tokens_are_never_drawn(small: None, device: str) -> None:
    logits = torch.full((3, 50), float("-inf"), device=device)
    logits[0, 37] = -4.0
    logits[1, 3] = 1e30
    hot = torch.full((3,), 50.0, device=device)
    got = sample.choose(logits, hot, some_keys(device, 3))
    assert got.tolist() == [37, 3, -2]  # the last row has no possible token


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_told(
    small: None, device: str, bad: float, temperature: float
) -> None:
    logits = noise(device, 3, 50, 1)
    logits[1, 33] = bad
    warmth = torch.full((3,), temperature, device=device)
    keys = some_keys(device, 3)
    cuts = limits([(5, 0.9, 0.1)] * 3, device)
    for got in (
        sample.choose(logits, warmth, keys),
        sample.choose_truncated(logits, warmth, *cuts, keys),
        twin.choose(logits, warmth, keys),
    ):
        first, second, third = got.tolist()
        assert second == -1 and first >= 0 and third >= 0


@settings(max_examples=10, **SLOW)
@given(seed=st.integers(0, 99), vocab=st.integers(1, 90), num_top=st.integers(0, 9))
def test_the_best_tokens_and_the_sum(
    small: None, device: str, seed: int, vocab: int, num_top: int
) -> None:
    logits = noise(device, 3, vocab, seed, 4.0)
    num_top = min(num_top, vocab)
    norm, values, tokens = sample.largest_logits(logits, num_top)
    torch.testing.assert_close(norm, logits.logsumexp(-1))
    want = logits.topk(num_top, dim=-1)
    assert torch.equal(values, want.values)
    assert torch.equal(tokens, want.indices), "no two logits are equal here"


def test_a_draw_minds_neither_company_nor_place(small: None, device: str) -> None:
    logits = noise(device, 5, 60, 3)
    temperature = torch.ones(5, device=device)
    keys = some_keys(device, 5)
    cuts = limits([(0, 1.0, 0.0), (9, 0.8, 0.0), (0, 0.7, 0.0), (3, 1.0, 0.0), (0, 1, 0.2)], device)
    together = sample.choose_truncated(logits, temperature, *cuts, keys)
    for i in range(5):
        one = slice(i, i + 1)
        k, p, m = (c[one] for c in cuts)
        alone = sample.choose_truncated(logits[one], temperature[one], k, p, m, keys[one])
        assert alone.tolist() == together[one].tolist()


def test_the_law_of_the_twin() -> None:
    """Many draws, of tokens from 0.3 down to 1e-5, over several chunks."""
    number, vocab = 100_000, 24
    logits = torch.linspace(2, -9, vocab)[torch.randperm(vocab, generator=torch.Generator())]
    temperature = torch.full((number,), 0.9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "CHUNK", 5)
        tokens = twin.choose(logits.repeat(number, 1), temperature, torch.arange(number))
    assert chi_squared(tokens, torch.softmax(logits / 0.9, -1)) < 2


def test_the_law_of_the_kernels(small: None, device: str) -> None:
    number, fewer = (200_000, 200_000) if device == "cuda" else (150, 20)
    logits = torch.tensor([2.0, 1.0, -30.0, 0.5] + [-1.0] * 30 + [1.7, 0.0], device=device)
    temperature = torch.full((number,), 1.3, device=device)
    keys = torch.arange(number, device=device)
    rows = logits.repeat(number, 1)
    tokens = sample.choose(rows, temperature, keys)
    assert chi_squared(tokens, torch.softmax(logits / 1.3, -1)) < 2.5
    cuts = limits([(5, 0.9, 0.1)] * fewer, device)
    kept = inversion.truncate(logits[None].cpu() / 1.3, limits([(5, 0.9, 0.1)], "cpu"))[0]
    some = slice(fewer)
    tokens = sample.choose_truncated(rows[some], temperature[some], *cuts, keys[some])
    assert chi_squared(tokens, kept / kept.sum()) < 2.5


# --- truncating ------------------------------------------------------------------------------


def kept_by_sorting(logits: torch.Tensor, temperature: float, cuts: list[Limits]) -> torch.Tensor:
    return inversion.truncate(logits.double().cpu() / temperature, limits(cuts, "cpu")) > 0


CUT = st.tuples(
    st.one_of(st.just(0), st.integers(1, 120)),
    st.one_of(st.just(1.0), st.floats(0.0, 1.0, width=32)),
    st.one_of(st.just(0.0), st.floats(0.0, 1.0, width=32)),
)


@settings(max_examples=20, **SLOW)
@given(
    seed=st.integers(0, 9999),
    vocab=st.integers(2, 110),
    cuts=st.lists(CUT, min_size=1, max_size=2),
    scale=st.sampled_from([0.01, 1.0, 6.0]),
    temperature=st.sampled_from([0.5, 1.0]),
)
def test_what_is_kept_is_what_sorting_keeps(
    small: None,
    device: str,
    seed: int,
    vocab: int,
    cuts: list[Limits],
    scale: float,
    temperature: float,
) -> None:
    logits = noise(device, len(cuts), vocab, seed, scale)
    assume(all(len(row.unique()) == vocab for row in logits))
    want = kept_by_sorting(logits, temperature, cuts)
    # A limit that a sum meets to the last bits decides either way.
    for k, p, m in cuts:
        near = [(k, p * s, m * t) for s in (1 - 1e-5, 1 + 1e-5) for t in (1 - 1e-5, 1 + 1e-5)]
        near = [(k, min(p, 1.0), min(m, 1.0)) for k, p, m in near if (p, m) != (1, 1)]
        for cut in near:
            other = kept_by_sorting(logits, temperature, [cut] * len(cuts))
            assume(
                torch.equal(other, kept_by_sorting(logits, temperature, [(k, p, m)] * len(cuts)))
            )
    warmth = torch.full((len(cuts),), temperature, device=device)
    least = threshold.least_kept(logits, warmth, *limits(cuts, device))
    assert torch.equal((logits >= least[:, None]).cpu(), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_real_sizes(device: str, dtype: torch.dtype) -> None:
    """Peaked, flat and tied rows, more candidates than room; the twin keeps ties as well."""
    logits = noise(device, 6, 3000, 5, scale=3.0)
    logits[2:4] *= 0.1
    logits[4] = 0.25
    logits[5, 100:] = float("-inf")
    logits = logits.to(dtype)
    several = [(20, 0.95, 0.0), (0, 0.9, 0.0), (1500, 0.9, 0.0), (0, 0.6, 0.0), (7, 0.5, 0.0)]
    cuts = limits([*several, (0, 0.9, 0.0)], device)
    temperature = torch.full((6,), 0.8, device=device)
    least = threshold.least_kept(logits, temperature, *cuts)
    want = twin.least_kept(logits, temperature, *cuts)
    kept, wanted = ((logits.double() >= x[:, None]).sum(dim=-1) for x in (least.double(), want))
    # In float32 a sum of thousands may end one value earlier or later.
    assert (kept - wanted).abs().max() <= (1 if dtype == torch.float32 else 0.02 * 3000)
    keys = some_keys(device, 6)
    got = sample.choose_truncated(logits, temperature, *cuts, keys)
    assert (logits.gather(1, got[:, None])[:, 0].float() >= least).all()


def test_a_vocabulary_that_must_be_sampled(device: str) -> None:
    """More tokens than can be taken out: flat, peaked, with one far above, and with many ties."""
    vocab = 20_000
    assert vocab > threshold._ROOM
    logits = noise(device, 5, vocab, 3, scale=0.5)
    logits[1] *= 6
    logits[2, 77] = 8.0
    logits[3] = logits[3].round()
    cuts = limits(
        [(0, 0.95, 0.0), (0, 0.9, 0.0), (0, 0.8, 0.0), (0, 0.7, 0.0), (3000, 0.9, 0.0)], device
    )
    temperature = torch.full((5,), 0.8, device=device)
    least = threshold.least_kept(logits, temperature, *cuts)
    want = twin.least_kept(logits, temperature, *cuts)
    kept, wanted = ((logits.double() >= x[:, None]).sum(dim=-1) for x in (least.double(), want))
    assert (kept - wanted).abs().max() <= 1, "a float sum may end one value earlier or later"
    assert (wanted > 100).all() and (wanted < vocab).all()


def test_rows_that_want_nothing_are_left_alone(small: None, device: str) -> None:
    logits = noise(device, 3, 64, 8)
    temperature = column([1.0, 0.0, 1.0], torch.float32, device)
    cuts = limits([(0, 1.0, 0.0), (5, 0.5, 0.5), (64, 1.0, 0.0)], device)
    least = threshold.least_kept(logits, temperature, *cuts)
    assert least[:2].tolist() == [float("-inf")] * 2
    assert least[2] == logits[2].min()
    keys = some_keys(device, 3)
    plain = sample.choose(logits, temperature, keys)
    assert sample.choose_truncated(logits, temperature, *cuts, keys).tolist() == plain.tolist()


def test_shapes_and_dtypes_are_checked(device: str) -> None:
    logits, ones = noise(device, 2, 8, 0), torch.ones(2, device=device)
    keys = some_keys(device, 2)
    with pytest.raises(ValueError, match="adjacent columns"):
        sample.choose(logits.T, torch.ones(8, device=device), some_keys(device, 8))
    with pytest.raises(ValueError, match=r"want torch.float32 \[2\]"):
        sample.choose(logits, ones.double(), keys)
    with pytest.raises(ValueError, match=r"want torch.int64 \[2\]"):
        sample.choose(logits, ones, keys[:1])
    with pytest.raises(ValueError, match=r"want torch.int32 \[2\]"):
        sample.choose_truncated(logits, ones, ones, ones, ones, keys)
    assert sample.choose(logits[:0], ones[:0], keys[:0]).shape == (0,)
