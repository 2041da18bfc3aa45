"""What a model is, in numbers: the differences between families as fields of one record.

Llama, Mistral, Qwen2, Qwen3, SmolLM3 and Gemma 3 text models are the same decoder:

    x = embed(token) * embedding_scale
    for each layer:
        x = x + [post_norm](o(attention(rope([qk_norm](qkv(norm(x)))))))
        x = x + [post_norm](down(act(gate(norm(x))) * up(norm(x))))
    logits = [soft_cap](lm_head(norm(x)))

and what stands in brackets, the activation, the window and the rotation are fields of `ModelSpec`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched for contexts longer than the trained one."""

    kind: str = "none"
    """none, linear, llama3 or yarn."""
    factor: float = 1.0
    original_context: int = 0
    """Trained context, in tokens (llama3, yarn)."""
    low_freq_factor: float = 1.0
    """llama3: wavelengths above original_context / this are fully scaled."""
    high_freq_factor: float = 4.0
    """llama3: wavelengths below original_context / this are not scaled."""
    beta_fast: float = 32.0
    """yarn: rotations over the trained context above which a frequency is kept."""
    beta_slow: float = 1.0
    """yarn: rotations below which a frequency is interpolated."""
    attention_factor: float = 1.0
    """yarn: cos and sin are multiplied by it (0.1·ln(factor)+1 unless the file says otherwise)."""
    truncate: bool = True
    """yarn: round the borders of the ramp to whole dimensions."""
    factors: tuple[float, ...] = ()
    """llama3 as GGUF stores it: what each of the head_dim / 2 frequencies is divided by, worked
    out. Where given, it replaces the formula and its constants above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shape and constants of one decoder. Sizes in elements, lengths in tokens."""

    family: str
    """llama, mistral, qwen2, qwen3, smollm3 or gemma3."""
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float

    rope_theta: float
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    rope_theta_local: float | None = None
    """Base of the layers with a sliding window, which are never scaled; None: as the others."""
    rope_dim: int | None = None
    """Leading dimensions of a head that rotate; None: all."""
    rope_layers: tuple[bool, ...] = ()
    """Per layer, whether its heads rotate at all; empty: they do in all layers. SmolLM3 leaves out
    every fourth (NoPE: such a layer knows the order of tokens from the causal mask alone)."""

    tied_head: bool = False
    """lm_head is the embedding."""
    qk_norm: bool = False
    """RMSNorm on each head of q and k before the rotation."""
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    activation: str = "silu"
    """silu (SwiGLU) or gelu_tanh (GeGLU)."""
    sandwich_norms: bool = False
    """A further norm after attention and after the MLP, before the residual is added."""
    norm_offset: float = 0.0
    """Added to norm weights on load: 1 for Gemma's safetensors, whose norms store w - 1."""
    embedding_scale: float = 1.0
    attention_scale: float = 0.0
    """Scores are multiplied by it; 0: head_dim ** -0.5."""
    attention_softcap: float = 0.0
    """Scores become cap·tanh(score / cap); 0: not."""
    logit_softcap: float = 0.0
    sliding_window: int = 0
    """Tokens a local layer sees, itself included; 0: no layer is local."""
    local_layers: tuple[bool, ...] = ()
    """Per layer, whether it has the sliding window; empty: all have it if sliding_window > 0."""

    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    """Any of them ends an answer."""

    def window(self, layer: int) -> int:
        """Sliding window of `layer` in tokens, 0 if it sees everything."""
        if not self.sliding_window or (self.local_layers and not self.local_layers[layer]):
            return 0
        return self.sliding_window

    def rotates(self, layer: int) -> bool:
        """Whether queries and keys of `layer` are rotated by their position."""
        return not self.rope_layers or self.rope_layers[layer]

    @property
    def scale(self) -> float:
        """What attention scores are multiplied by."""
        return self.attention_scale or self.head_dim**-0.5

    @property
    def kv_numbers_per_token(self) -> int:
        """Numbers of keys and values that one token leaves behind in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim


def yarn_attention_factor(factor: float) -> float:
    """0.1·ln(factor) + 1: how much longer contexts sharpen attention. Source: arXiv:2309.00071."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def expected_weights(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Every weight that `spec` has, by our name, and its shape: matrices are [out, in].

    `embed`, `norm` and `lm_head` (unless tied) stand alone; the others start with `layers.{i}.`.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "embed": (spec.vocab_size, spec.hidden_size),
        "norm": (spec.hidden_size,),
    }
    if not spec.tied_head:
        shapes["lm_head"] = (spec.vocab_size, spec.hidden_size)
    one = _layer_weights(spec)
    for layer in range(spec.num_layers):
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in one.items()}
    return shapes


def num_weights(spec: ModelSpec) -> int:
    """Elements of all weights together."""
    return sum(math.prod(shape) for shape in expected_weights(spec).values())


def _layer_weights(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (hidden,),
        "q": (q, hidden),
        "k": (kv, hidden),
        "v": (kv, hidden),
        "o": (hidden, q),
        "mlp_norm": (hidden,),
        "gate": (inner, hidden),
        "up": (inner, hidden),
        "down": (hidden, inner),
    }
    if spec.qkv_bias:
        shapes |= {"q_bias": (q,), "k_bias": (kv,), "v_bias": (kv,)}
    if spec.o_bias:
        shapes |= {"o_bias": (hidden,)}
    if spec.mlp_bias:
        shapes |= {"gate_bias": (inner,), "up_bias": (inner,), "down_bias": (hidden,)}
    if spec.qk_norm:
        shapes |= {"q_norm": (spec.head_dim,), "k_norm": (spec.head_dim,)}
    if spec.sandwich_norms:
        shapes |= {"attn_post_norm": (hidden,), "mlp_post_norm": (hidden,)}
    return shapes
