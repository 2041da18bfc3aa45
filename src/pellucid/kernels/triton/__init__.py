"""Kernels for NVIDIA GPUs, written in Triton. Imported only where a GPU is used (or simulated).

Each file is one kernel with its launcher; its slow twin stands in `kernels/reference`. The tests
run them on a CPU too, in Triton's interpreter, which executes a kernel program by program with
NumPy.
"""
