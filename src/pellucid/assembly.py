"""What an engine is made of: the parts that a configuration comes to, around one model.

`assemble` takes four steps: settle what everything comes to (`resolve.py`), load the weights, plan
the memory, make the KV cache. An engine does it when it starts, and again when a switch is changed.
Then whatever the new choice leaves as it was is taken over from the assembly before: the weights,
unless they are to be multiplied in another way, and the KV cache's memory. So a model of gigabytes
changes its attention in the time that it takes to make a few objects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pellucid.attention import Heads, make_attention
from pellucid.cache.pool import KVPool
from pellucid.config import EngineConfig
from pellucid.kernels import make_row_kernels, make_units
from pellucid.model.checkpoint import Checkpoint
from pellucid.model.decoder import Decoder, Loader
from pellucid.model.weights import dense_bytes
from pellucid.quant.linear import in_strips
from pellucid.request import EngineInfo
from pellucid.resolve import Resolved, resolve
from pellucid.runner.build import Parts, compile_ahead, measure
from pellucid.runner.machine import device_name, look_around, machine_of, use_threads
from pellucid.runner.memory import (
    MemoryPlan,
    check_steps_fit,
    check_weights_fit,
    kv_bytes_per_token,
    make_pool,
    naming,
    plan_memory,
)
from pellucid.runner.pipeline import OverlapPipeline, Pipeline, SerialPipeline
from pellucid.runner.runner import Runner
from pellucid.sampling.inversion import Inversion
from pellucid.sampling.sampler import Method
from pellucid.stages import Clock, Laps
from pellucid.switching import obstacles


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of an engine that outlive its steps."""

    config: EngineConfig
    resolved: Resolved
    parts: Parts
    memory: MemoryPlan
    pool: KVPool

    def runner(self, clock: Clock) -> Runner:
        """What launches steps; it knows no sequence yet."""
        return self.parts.runner(self.pool, clock, graphs=self.resolved.graphs == "on")

    def pipeline(self) -> Pipeline:
        """What holds the steps in flight."""
        return OverlapPipeline() if self.resolved.overlap == "on" else SerialPipeline()


def assemble(
    config: EngineConfig, checkpoint: Checkpoint, start: Laps, before: Assembly | None = None
) -> Assembly:
    """Make the parts, or take them over from the assembly before. `InputError` for what cannot be
    had here, or does not fit into memory."""
    resolved = resolve_here(config, checkpoint)
    use_threads(config.threads)
    start.lap("device")
    parts = load(config, checkpoint, resolved, before.parts if before else None)
    start.lap("weights")
    compile_ahead(parts)
    start.lap("kernels")
    profile = measure(parts)
    if before is None or not before.pool.serves(parts.machine.block_size, parts.machine.kv_format):
        memory = plan_memory(
            config, checkpoint.spec, parts.machine, resolved.context_length, profile
        )
        with naming("KV cache", "set memory or num_blocks lower", "memory"):
            pool = make_pool(memory.num_blocks, checkpoint.spec, parts.machine)
    else:
        check_steps_fit(profile, parts.machine)
        memory, pool = replace(before.memory, profile=profile), before.pool
    start.lap("memory")
    return Assembly(config, resolved, parts, memory, pool)


def resolve_here(config: EngineConfig, checkpoint: Checkpoint) -> Resolved:
    """What `config` comes to on this machine; reads no weight."""
    facts = look_around(config.device)
    return resolve(config, checkpoint.spec, facts, checkpoint.layer_kinds)


def load(
    config: EngineConfig, checkpoint: Checkpoint, resolved: Resolved, before: Parts | None = None
) -> Parts:
    """Load the weights, and make everything that does not depend on the memory they leave."""
    spec, machine = checkpoint.spec, machine_of(resolved)
    device, dtype = machine.device, machine.dtype
    fused, gemv = resolved.fused_kernels == "on", resolved.gemv == "on"
    invariant = resolved.batch_invariant == "on"
    method = in_strips(resolved.weights) if invariant else resolved.weights
    units = make_units(fused, gemv, device, dtype)
    if before is not None and before.method == method:
        model = before.model.with_units(units)
    else:
        check_weights_fit(dense_bytes(spec, dtype), machine)
        with naming("weights", "take a smaller model or a 16-bit dtype", "model"):
            loader = Loader(
                spec=spec,
                weights=checkpoint.weights(dtype, device),
                dtype=dtype,
                device=device,
                method=method,
                units=units,
            )
            model = Decoder(spec, loader, resolved.context_length)
    heads = Heads(spec.num_heads, spec.num_kv_heads, spec.head_dim, machine.block_size)
    return Parts(
        config=config,
        spec=spec,
        machine=machine,
        context_length=resolved.context_length,
        model=model,
        method=method,
        attention=make_attention(resolved.attention, device, dtype, heads, invariant),
        drawing=make_sampler(resolved.sampler),
        kernels=make_row_kernels() if resolved.has_gpu_kernels else None,
    )


def describe(checkpoint: Checkpoint, made: Assembly, start: Laps) -> EngineInfo:
    """What the engine turned out to be."""
    spec, resolved, machine = checkpoint.spec, made.resolved, made.parts.machine
    model, facts = made.parts.model, look_around(made.config.device)

    def attempt(config: EngineConfig) -> Resolved:
        return resolve(config, spec, facts, checkpoint.layer_kinds)

    return EngineInfo(
        model=checkpoint.name,
        context_length=resolved.context_length,
        vocab_size=spec.vocab_size,
        block_size=resolved.block_size,
        num_blocks=made.memory.num_blocks,
        device=resolved.device,
        dtype=resolved.dtype,
        switches=resolved.switches,
        obstacles=obstacles(made.config, resolved.switches, attempt),
        batch_invariant=resolved.batch_invariant,
        why=dict(resolved.why),
        eos_token_ids=spec.eos_token_ids,
        device_name=device_name(machine.device),
        weight_bytes=model.weight_bytes,
        head_bytes=model.head.nbytes,
        kv_bytes_per_token=kv_bytes_per_token(spec, machine.kv_format),
        ledger=made.memory.ledger(model.weight_bytes),
        start_s=start.seconds,
    )


def make_sampler(sampler: str) -> Method:
    """How tokens are drawn."""
    if sampler == "sort":
        return Inversion()
    from pellucid.sampling.pivot import Pivot  # Triton loads only where it runs

    return Pivot()
