"""Slow twins: what each kernel computes, in a few lines of torch, without how.

    packed      products with 4- and 8-bit blocks       cpu/linear.c
    steps       norm, rotation, gate and the GEMV       triton/norm.py, rotary.py, gated.py, gemv.py
    attention   attention over pages                    triton/flash.py, flash_hopper.py, decode.py
    sampling    Gumbel-max, the cut of top-k and top-p  triton/sample.py

Tests hold each pair together. The twins of cpu/step.c are the off form itself, `ops.TorchOps`, and
that of triton/inputs.py is `decode.prepare`.
"""
