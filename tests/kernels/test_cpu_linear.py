"""The compiled linear kernels against their twins and against the reader of the file format."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.kernels import KINDS, cpu_kernels, status
from pellucid.kernels.cpu.linear import MAX_FEW
from pellucid.kernels.reference import packed as reference

pytestmark = pytest.mark.skipif(not status().ready, reason=f"no CPU kernels: {status().line}")

HALVES = {"Q4_0": [0], "Q5_0": [0], "Q8_0": [0], "Q6_K": [208]}
"""Where the half-precision numbers of a block are; bytes 0 and 2 for the kinds not named."""


def random_blocks(kind: str, n: int, k: int, seed: int = 0) -> torch.Tensor:
    """Blocks with every code and scale possible, and half-precision factors of a sane size."""
    form = reference.FORMATS[kind]
    count = k // (256 if form.shared else 32)
    make = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 256, (n, count, form.nbytes), dtype=torch.uint8, generator=make)
    for at in HALVES.get(kind, [0, 2]):
        factor = torch.randn(n, count, 1, generator=make).mul(0.01).half()
        data[..., at : at + 2] = factor.view(torch.uint8)
    return data.view(n, -1)


def oracle(kind: str, data: torch.Tensor) -> torch.Tensor:
    kind_number = gguf.GGMLQuantizationType[kind]
    return torch.from_numpy(np.asarray(gguf.quants.dequantize(data.numpy(), kind_number)))


def assert_close(
    got: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: Any = None
) -> None:
    """Within float32 rounding of a sum: relative to the sum of the terms' magnitudes."""
    want = x.double() @ weight.double().T
    size = x.double().abs() @ weight.double().abs().T
    if bias is not None:
        want, size = want + bias, size + bias.abs()
    assert ((got - want).abs() <= 2e-6 * size + 1e-30).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 16, 37])
def test_packs_and_expands_to_the_files_numbers(kind: str, n: int) -> None:
    k = 512
    data = random_blocks(kind, n, k)
    want = oracle(kind, data)
    matrix = cpu_kernels().pack(kind, data, k)
    assert torch.equal(matrix.data, reference.pack(kind, data))
    assert torch.equal(reference.expand(kind, matrix.data, n, k), want)
    assert torch.equal(matrix.expand(0, n, torch.float32), want)
    assert torch.equal(matrix.expand(0, n, torch.bfloat16), want.bfloat16())
    if n > 16:
        assert torch.equal(matrix.expand(16, 20, torch.float32), want[16:36])
    ids = torch.tensor([n - 1, 0, n // 2, n - 1])
    assert torch.equal(matrix.rows(ids, torch.float32), want[ids])


def test_packing_takes_no_more_bytes_than_the_file() -> None:
    for kind in KINDS:
        data = random_blocks(kind, 64, 512)
        assert cpu_kernels().pack(kind, data, 512).nbytes <= data.numel() * 1.03, kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_count_agrees_with_the_twin(kind: str) -> None:
    n, k = 53, 768
    data = random_blocks(kind, n, k)
    matrix = cpu_kernels().pack(kind, data, k)
    weight = oracle(kind, data)
    for m in [*range(1, 41), 191, 200, 400]:
        x = torch.randn(m, k)
        assert_close(matrix.matmul(x), x, weight)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(1, 24),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_any_shape(kind: str, n: int, m: int, blocks: int, biased: bool, seed: int) -> None:
    k = 256 * -(-blocks // 8) if reference.FORMATS[kind].shared else 32 * blocks
    data = random_blocks(kind, n, k, seed)
    bias = torch.randn(n) if biased else None
    matrix = cpu_kernels().pack(kind, data, k).with_bias(bias)
    weight = reference.expand(kind, matrix.data, n, k)
    x = torch.randn(m, k)
    assert_close(matrix.matmul(x), x, weight, bias)
    torch.testing.assert_close(
        matrix.matmul(x), reference.matmul(x, weight, bias), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("m", [1, 3, MAX_FEW, MAX_FEW + 1, 50])
def test_bfloat16_activations(m: int) -> None:
    data = random_blocks("Q4_1", 40, 96)
    bias = torch.randn(40)
    matrix = cpu_kernels().pack("Q4_1", data, 96).with_bias(bias)
    x = torch.randn(m, 96).bfloat16()
    got, want = matrix.matmul(x), matrix.matmul(x.float())
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, want.bfloat16())


def test_special_values_pass_through() -> None:
    data = random_blocks("Q8_0", 16, 32)
    data[:, 2] = 1  # a code that is not zero, whose product with infinity would be NaN
    matrix = cpu_kernels().pack("Q8_0", data, 32)
    x = torch.zeros(1, 32)
    assert (matrix.matmul(x) == 0).all()
    x[0, 0] = float("nan")
    assert matrix.matmul(x).isnan().all()
    assert matrix.matmul(x.bfloat16()).isnan().all()


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 70),
    st.integers(1, 24),
    st.booleans(),
    st.lists(st.integers(1, 300), min_size=1, max_size=4),
    st.integers(0, 2**31),
)
def test_a_row_does_not_depend_on_the_others(
    kind: str, n: int, blocks: int, biased: bool, counts: list[int], seed: int
) -> None:
    """Bit for bit, however many rows there are, wherever in the call and in memory one stands."""
    k = 256 * -(-blocks // 8) if reference.FORMATS[kind].shared else 32 * blocks
    bias = torch.randn(n) if biased else None
    matrix = cpu_kernels().pack(kind, random_blocks(kind, n, k, seed), k).with_bias(bias)
    row = torch.randn(1, k) * torch.randn(1, k).mul(4).exp()
    alone = matrix.matmul(row)[0]
    rounded = matrix.matmul(row.bfloat16())[0]
    for m in (MAX_FEW, MAX_FEW + 1, *counts):
        at = seed % m
        x = torch.randn(m * k + 1)[1:].view(m, k)
        x[at] = row
        assert torch.equal(matrix.matmul(x, exact=True)[at], alone), m
        assert torch.equal(matrix.matmul(x.bfloat16(), exact=True)[at], rounded), m


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(1, 70),
    st.integers(1, 700),
    st.lists(st.integers(1, 300), min_size=1, max_size=3),
    st.integers(0, 2**31),
)
def test_plain_numbers(dtype: torch.dtype, n: int, k: int, counts: list[int], seed: int) -> None:
    """Any shape is right, its rows come back to the bit, and a row depends on that row alone."""
    make = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n, k, generator=make).to(dtype)
    bias = torch.randn(n, generator=make)
    matrix = cpu_kernels().pack_plain(numbers).with_bias(bias)
    ids = torch.tensor([n - 1, 0, n // 2])
    assert torch.equal(matrix.rows(ids, torch.float32), numbers[ids].float())
    row = torch.randn(1, k, generator=make)
    alone = matrix.matmul(row)[0]
    assert_close(matrix.matmul(row), row, numbers, bias)
    for m in (MAX_FEW, MAX_FEW + 1, *counts):
        x = torch.randn(m, k, generator=make)
        x[seed % m] = row
        got = matrix.matmul(x)
        assert torch.equal(got[seed % m], alone), m
        assert_close(got, x, numbers, bias)


def test_without_exact_a_row_depends_on_the_way_only() -> None:
    """Bit for bit, among calls of few rows and among calls of many."""
    data = random_blocks("Q4_1", 100, 576)
    matrix = cpu_kernels().pack("Q4_1", data, 576)
    x = torch.randn(300, 576)
    few = torch.cat([matrix.matmul(x[i : i + 1]) for i in range(MAX_FEW)])
    many = matrix.matmul(x)
    for m in range(1, MAX_FEW + 1):
        assert torch.equal(matrix.matmul(x[:m]), few[:m])
    for m in range(MAX_FEW + 1, 300, 37):
        assert torch.equal(matrix.matmul(x[:m]), many[:m])


def test_result_does_not_depend_on_threads() -> None:
    data = random_blocks("Q5_0", 1000, 640)
    matrix = cpu_kernels().pack("Q5_0", data, 640)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            results.append([matrix.matmul(torch.randn(m, 640)) for m in (1, 7, 100)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_may_call_at_once() -> None:
    data = random_blocks("Q4_1", 512, 576)
    matrix = cpu_kernels().pack("Q4_1", data, 576)
    xs = [torch.randn(m, 576) for m in (1, 5, 30)]
    want = [matrix.matmul(x) for x in xs]
    wrong = []

    def call() -> None:
        for _ in range(100):
            for x, result in zip(xs, want, strict=True):
                if not torch.equal(matrix.matmul(x), result):
                    wrong.append(len(x))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_workers_sleep_when_idle() -> None:
    data = random_blocks("Q4_1", 4096, 576)
    matrix = cpu_kernels().pack("Q4_1", data, 576)
    matrix.matmul(torch.randn(1, 576))
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def _multiply_in_child(queue: Any, matrix: Any, x: torch.Tensor) -> None:
    queue.put(matrix.matmul(x).tolist())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_works_in_a_forked_child() -> None:
    data = random_blocks("Q4_1", 512, 576)
    matrix = cpu_kernels().pack("Q4_1", data, 576)
    x = torch.randn(1, 576)
    want = matrix.matmul(x).tolist()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_multiply_in_child, args=(queue, matrix, x))
    child.start()
    got = queue.get(timeout=30)
    child.join()
    assert got == want


def test_refuses_what_does_not_fit() -> None:
    kernels = cpu_kernels()
    data = random_blocks("Q4_1", 20, 64)
    matrix = kernels.pack("Q4_1", data, 64)
    with pytest.raises(ValueError, match="does not fit"):
        matrix.matmul(torch.randn(2, 32))
    with pytest.raises(IndexError, match="out of range"):
        matrix.rows(torch.tensor([20]), torch.float32)
    with pytest.raises(IndexError, match="out of range"):
        matrix.rows(torch.tensor([-1]), torch.float32)
    with pytest.raises(IndexError):
        matrix.expand(16, 5, torch.float32)
    with pytest.raises(ValueError, match="multiple of 16"):
        matrix.expand(1, 5, torch.float32)
    with pytest.raises(ValueError, match="bytes"):
        kernels.pack("Q4_1", data[:, :20], 64)
    with pytest.raises(ValueError, match="whole blocks"):
        kernels.pack("Q4_1", data, 48)
    with pytest.raises(ValueError, match="bias"):
        matrix.with_bias(torch.zeros(19))
    assert matrix.matmul(torch.zeros(0, 64)).shape == (0, 20)


def test_input_need_not_be_contiguous() -> None:
    data = random_blocks("Q4_1", 20, 64)
    matrix = cpu_kernels().pack("Q4_1", data, 64)
    x = torch.randn(64, 30).T
    for m in (2, 30):
        assert torch.equal(matrix.matmul(x[:m]), matrix.matmul(x[:m].contiguous()))
