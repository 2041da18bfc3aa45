"""`pellucid model`: what a step should take, from the model's shape and the machine's peaks."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Any

from pellucid.cli import hardware
from pellucid.cli.common import parse_lengths, write_json
from pellucid.cli.parser import Parser
from pellucid.errors import InputError
from pellucid.explore.hardware import environment
from pellucid.explore.peaks import find_hardware
from pellucid.explore.roofline import Budget, Hardware, budget
from pellucid.explore.work import modelled_kv_bytes, weight_bytes
from pellucid.explore.workload import Choices, Workload
from pellucid.model.checkpoint import name_of
from pellucid.model.folder import spec_of_folder
from pellucid.model.gguf import GgufFile
from pellucid.model.hub import resolve
from pellucid.model.spec import ModelSpec
from pellucid.quant.kinds import SUPPORTED, bytes_per_element


@dataclass(frozen=True, slots=True)
class Setting:
    """What the flags that the modelling verbs share come to."""

    name: str
    spec: ModelSpec
    hardware: Hardware
    choices: Choices
    provenance: str
    """How far to trust what is modelled."""
    phase: Any
    batch: int
    prefix: int

    def budget(self, length: int) -> Budget:
        work = Workload(phase=self.phase, length=length, batch=self.batch, prefix=self.prefix)
        return budget(self.spec, work, self.choices, self.hardware)

    def record(self) -> dict[str, Any]:
        """The setting as it goes to JSON."""
        return {
            "model": {"name": self.name, "spec": dataclasses.asdict(self.spec)},
            "hardware": dataclasses.asdict(self.hardware),
            "choices": dataclasses.asdict(self.choices),
            "phase": self.phase,
            "batch": self.batch,
            "prefix": self.prefix,
            "kind": self.hardware.kind,
            "kv_bytes_per_token": modelled_kv_bytes(self.spec, self.choices),
            "weight_bytes": weight_bytes(self.spec, self.choices),
        }


DEFAULTS: dict[str, Any] = {
    "model": "smollm2",
    "revision": "main",
    "hardware": hardware.HERE,
    "prefix": 0,
}


EXAMPLES = """examples:
  pellucid model --hardware h100 --batch 8              the default model on an H100
  pellucid model --model Qwen/Qwen3-0.6B --hardware rtx4090 --lengths 1k,8k,32k
  pellucid model --hardware m4-max --phase prefill --weight-bytes 0.6"""


def add_arguments(parser: Parser) -> None:
    add_setting_flags(parser)
    parser.add_argument(
        "--lengths",
        type=parse_lengths,
        metavar="A,B,C",
        help="tokens, 2k is 2,048 (default: from 64 to the model's limit, four times as many each)",
    )
    parser.add_argument("--json", metavar="FILE", help="every stage of every length; - is stdout")


def add_setting_flags(parser: Parser) -> None:
    """Workload, model, machine, and one flag per field of `Choices`; those not given are None."""
    parser.add_argument(
        "--phase", choices=("decode", "prefill"), default="decode", help="(default: decode)"
    )
    parser.add_argument("--batch", type=int, default=1, help="sequences at once (default: 1)")
    for flag, text in (
        ("--model", "alias, Hub id, folder with config.json, or .gguf file; no weights are read"),
        ("--revision", "branch, tag or commit of a Hub model"),
        ("--hardware", hardware.HELP),
    ):
        shown = f"{text} (default: {DEFAULTS[flag.strip('-')]})"
        parser.add_argument(flag, help=shown)
    parser.add_argument("--prefix", type=int, help="prefill: tokens stored before (default: 0)")
    group = parser.add_argument_group("switches")
    for spec in dataclasses.fields(Choices):
        group.add_argument(
            "--" + spec.name.replace("_", "-"),
            type=type(spec.default),
            choices=spec.metadata["choices"] or None,
            metavar=None if spec.metadata["choices"] else spec.name.upper(),
            help=f"{spec.metadata['doc']} (default: {spec.default})",
        )


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The flags of a setting, besides phase and batch, that stand on the command line."""
    names = [*DEFAULTS, *(f.name for f in dataclasses.fields(Choices))]
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def setting_from(args: argparse.Namespace) -> Setting:
    """The setting that the flags describe. A GGUF file says itself how its weights are stored."""
    values = given(args)
    model, revision, name, prefix = (values.pop(key, DEFAULTS[key]) for key in DEFAULTS)
    Workload(phase=args.phase, length=1, batch=args.batch, prefix=prefix)  # refuses bad ones early
    if name != hardware.HERE:
        find_hardware(name)  # a name that nobody knows is refused before a model is fetched
    shown, spec, stored = shape_of(model, revision)
    sizes = {} if "weight_bytes" in values else stored
    chosen = hardware.choose(name, spec, sizes, values)
    return Setting(shown, spec, *chosen, args.phase, args.batch, prefix)


def shape_of(model: str, revision: str) -> tuple[str, ModelSpec, dict[str, float]]:
    """Name, spec, and stored bytes per element where the file says them (`Choices`' fields)."""
    path = resolve(model, revision, weights=False)
    if path.is_dir():
        return name_of(model), spec_of_folder(path), {}
    if path.name == "config.json":
        return name_of(str(path.parent)), spec_of_folder(path.parent), {}
    file = GgufFile(path)
    return name_of(model), file.spec, stored_bytes(file)


def stored_bytes(file: GgufFile) -> dict[str, float]:
    """Bytes per element of the layers' matrices and of the head."""
    layers = [e for name, e in file.entries.items() if "." in name and len(e.shape) == 2]
    head = file.entries["embed" if file.spec.tied_head else "lm_head"]
    count = sum(e.shape[0] * e.shape[1] for e in layers)
    size = sum(e.shape[0] * e.shape[1] * bytes_of(e.kind) for e in layers)
    return {"weight_bytes": size / count, "head_bytes": bytes_of(head.kind)}


def bytes_of(kind: str) -> float:
    """Bytes per element of a format of GGUF."""
    if kind not in SUPPORTED:
        raise InputError(f"weights of kind {kind} are not read here; take another file")
    return bytes_per_element(kind)


def default_lengths(limit: int) -> list[int]:
    """64, 256, 1024, … and the limit."""
    powers = (4**i for i in range(3, limit.bit_length()))
    return [length for length in powers if length < limit] + [limit]


def run(args: argparse.Namespace) -> int:
    if args.hardware == hardware.LIST:
        print(hardware.table())
        return 0
    setting = setting_from(args)
    lengths = args.lengths or default_lengths(setting.spec.context_length)
    budgets = {length: setting.budget(length) for length in lengths}
    if args.json != "-":
        print(table(setting, budgets))
    if args.json:
        rows = [row(length, found, setting.hardware) for length, found in budgets.items()]
        record = {"environment": environment(), **setting.record(), "lengths": rows}
        write_json(record, args.json)
    return 0


def row(length: int, found: Budget, machine: Hardware) -> dict[str, Any]:
    """One length as it goes to JSON; `lo` and `hi` are the band of the milliseconds."""
    stages = {
        stage: {
            "ms": 1e3 * cost.seconds,
            "flops": cost.flops,
            "bytes": cost.bytes,
            "launches": cost.launches,
            "bound": cost.bound,
            "kind": machine.kind,
        }
        for stage, cost in found.stages.items()
    }
    ms = 1e3 * found.seconds
    return {
        "length": length,
        "ms": ms,
        "lo": ms * machine.fastest,
        "hi": ms * machine.slowest,
        "kind": machine.kind,
        "tokens_per_row": found.tokens_per_row,
        "attention_share": found.share(),
        "stages": stages,
    }


def table(setting: Setting, budgets: dict[int, Budget]) -> str:
    """What people read: one line per length."""
    unit = "decode step" if setting.phase == "decode" else "prompt batch"
    stored = weight_bytes(setting.spec, setting.choices)
    lines = [
        f"{setting.name} on {setting.hardware.name}, {unit}, batch {setting.batch} "
        f"({setting.provenance})",
        f"weights {stored / 1e9:.3f} GB a step, "
        f"KV cache {modelled_kv_bytes(setting.spec, setting.choices):,.0f} bytes a token",
        f"{'length':>9}  {'ms':>10}  {'attention':>9}  largest stage",
    ]
    for length, found in budgets.items():
        stage, cost = max(found.stages.items(), key=lambda item: item[1].seconds)
        lines.append(
            f"{length:>9,}  {1e3 * found.seconds:>10.3f}  {found.share():>9.1%}  "
            f"{stage} {found.share(stage):.0%}, {cost.bound}"
        )
    return "\n".join(lines)
