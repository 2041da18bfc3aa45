"""What is modelled for the page: counts of a run, curves of a setting, what is known by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_server import Running

from pellucid.explore import runfile
from pellucid.explore.alternatives import Setup
from pellucid.explore.curves import Question, curves_of
from pellucid.explore.peaks import find_hardware
from pellucid.explore.shapes import SHAPES, shape_named
from pellucid.explore.sheets import PEAKS
from pellucid.explore.work import load_of
from pellucid.explore.workload import Choices, Workload, settled

RESULTS = Path(__file__).parents[2] / "bench" / "results"
RUN, FIT = RESULTS / "run-smollm2-cpu.json", RESULTS / "calibrated-smollm2-cpu.json"
QWEN = {"shape": "Qwen3-0.6B", "machine": "h100", "alternatives": False}


def test_the_curves_of_a_fitted_machine(server: Running) -> None:
    run, fit = runfile.read(RUN), json.loads(FIT.read_text())
    body = {
        "name": "smollm2", "spec": run["model"]["spec"], "hardware": fit["hardware"],
        "choices": fit["choices"], "switches": {"kv_cache": "off", "batching": "static"},
        "packed": {key: fit["choices"][key] for key in ("weight_bytes", "head_bytes")},
    }  # fmt: skip
    found = server.http().post("/explorer/v1/curves", json=body).json()
    setting = Setup(settled(Choices(**fit["choices"]), "cpu"), "cpu", body["packed"])
    wanted = curves_of(
        Question(
            name="smollm2",
            spec=runfile.spec_of(run),
            hardware=find_hardware(str(FIT)),
            setting=setting.changed({"kv_cache": "off"}),
        )
    )
    assert found == json.loads(json.dumps(wanted))
    assert found["kind"] == "calibrated" and found["curves"][0]["switches"]["kv_cache"] == "off"
    assert "attention" in found["curves"][0]["answer"]["sentence"]


def test_the_curves_of_a_data_sheet_and_a_known_shape(server: Running) -> None:
    found = server.http().post("/explorer/v1/curves", json=QWEN).json()
    assert found["kind"] == "spec" and found["machine"] == "NVIDIA H100 SXM"
    assert found["model"] == "Qwen3-0.6B" and len(found["curves"]) == 1


def test_the_curves_of_a_pasted_config(server: Running) -> None:
    config = json.loads((Path(RESULTS).parent / "models/qwen3-0.6b/config.json").read_text())
    body = {key: value for key, value in QWEN.items() if key != "shape"}
    found = server.http().post("/explorer/v1/curves", json={**body, "config": config}).json()
    known = server.http().post("/explorer/v1/curves", json=QWEN).json()
    assert found["curves"][0]["seconds"] == known["curves"][0]["seconds"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "h1000"}, "no data sheet of 'h1000' here. Did you mean h100?"),
        ({"machine": "/etc/passwd"}, "no data sheet of"),
        ({"shape": "Qwen3-0.6"}, "no shape of 'Qwen3-0.6' here. Did you mean Qwen3-0.6B?"),
        ({"machine": None}, "hardware or machine"),
        ({"config": {}}, "spec, shape or config"),
        ({"shape": None, "config": {"model_type": "mamba"}}, "architecture"),
        ({"shape": None, "config": {"model_type": "llama"}}, "hidden_size"),
        ({"choices": {"colour": 1}}, "choices.colour is not known"),
        ({"choices": {"attention": "fast"}}, "attention must be one of"),
        ({"choices": {"weight_bytes": "many"}}, "weight_bytes"),
        ({"switches": {"attention": "fast"}}, "attention must be one of"),
        ({"scope": "step"}, "scope"),
        ({"batch": 0}, "batch"),
        ({"scope": "request", "num_outputs": 50_000}, "leaves no room for a prompt"),
    ],
)  # fmt: skip
def test_what_cannot_be_modelled_is_a_400(
    server: Running, change: dict[str, Any], words: str
) -> None:
    body = {key: value for key, value in {**QWEN, **change}.items() if value is not None}
    refused = server.http().post("/explorer/v1/curves", json=body)
    assert refused.status_code == 400, refused.text
    assert words in refused.json()["error"]["message"]


def test_the_counts_of_a_run(server: Running) -> None:
    run, fit = runfile.read(RUN), json.loads(FIT.read_text())
    found = server.http().post("/explorer/v1/counts", json={"run": run}).json()
    assert found["run"] == run["id"] and found["choices"] == fit["choices"]
    assert found["limits"]["flop_s"] == run["limits"]["matmul_flop_s"] and found["sheet"] is None
    assert len(found["cells"]) == len(run["cells"])
    for cell in found["cells"]:
        work = Workload(phase=cell["phase"], length=cell["length"], batch=cell["batch"])
        load = load_of(runfile.spec_of(run), work, Choices(**fit["choices"]), "cpu")
        for name in ("flops", "bytes", "pad_flops"):
            told = sum(k[name] for kernels in cell["stages"].values() for k in kernels)
            counted = sum(n * getattr(w, name) for g, n in load.groups.items() for w in g.works)
            assert told == pytest.approx(counted)


def test_the_sheet_of_a_known_gpu_is_told(server: Running) -> None:
    run = runfile.read(RESULTS / "run-qwen3-0.6b-h100.json")
    found = server.http().post("/explorer/v1/counts", json={"run": run}).json()
    assert found["sheet"]["bytes_s"] == PEAKS["h100"].bytes_s
    assert found["sheet"]["flop_s"] == PEAKS["h100"].flop_s_16


def test_what_is_known_by_name(server: Running) -> None:
    found = server.http().get("/explorer/v1/known").json()
    assert [machine["name"] for machine in found["machines"]] == list(PEAKS)
    assert found["shapes"] == list(SHAPES)
    for name in found["shapes"]:
        assert shape_named(name).context_length > 0
