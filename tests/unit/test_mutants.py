"""Damaged files, of every kind that is read: refused in one line or loaded, and nothing else.

No traceback, no hang, no allocation without end. Thousands of mutations were tried by hand; the
few here guard what they found. `mutants.mutant(sound, name, number)` makes any of them again.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import mutants
import pytest
from text_vocab import TEMPLATE

from pellucid.errors import InputError, ModelError
from pellucid.model.rope import rope_tables

COUNT = 40
"""Mutations of each file."""
ROOM = 4 << 30
"""Bytes of addresses that a mutation may take beyond those that the process has."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutants") / "sound"
    mutants.write_sound(folder)
    return folder


@pytest.fixture
def little_room() -> Iterator[None]:
    """An allocation without end fails at once, and does not take the machine with it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def model_with(sound: Path, name: str, data: bytes, folder: Path) -> Path:
    """A model that is sound but for the file `name`, which holds `data`."""
    folder.mkdir()
    if name == "model.gguf":
        (folder / name).write_bytes(data)
        return folder / name
    whole = name != "model.safetensors.index.json"
    for path in sound.iterdir():
        if path.name not in (name, "model.gguf", "model.safetensors.index.json"):
            here = path.name if whole or path.suffix != ".safetensors" else "part.safetensors"
            (folder / here).write_bytes(path.read_bytes())
    if name in ("added_tokens.json", "special_tokens_map.json"):
        # Read to the end only where tokenizer_config.json does not say it all.
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("name", mutants.FILES)
def test_the_sound_model_loads(sound: Path, tmp_path: Path, name: str) -> None:
    data = (sound / name).read_bytes()
    checkpoint = mutants.exercise(model_with(sound, name, data, tmp_path / "m"))
    assert checkpoint.spec.eos_token_ids == (2, 0)


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("name", mutants.FILES)
def test_a_damaged_file_is_refused_in_one_line_or_loads(
    sound: Path, tmp_path: Path, name: str
) -> None:
    good = (sound / name).read_bytes()
    refused = 0
    for number in range(COUNT):
        data = mutants.mutant(good, name, number)
        path = model_with(sound, name, data, tmp_path / str(number))
        try:
            mutants.exercise(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1500, (name, number)
        except Exception as error:
            raise AssertionError(f"mutation {number} of {name}: {error!r}") from error
    assert refused, "some of them are beyond use"


FOUND = {
    "a template in Latin-1": ("chat_template.jinja", b"{{ '\xe9' }}", "not UTF-8 text"),
    "a template without end": ("chat_template.jinja", b"{{" * 3000, "no valid Jinja"),
    "a tokenizer_config that is a list": ("tokenizer_config.json", b"[]", "holds no JSON object"),
    "a list for a name": ("config.json", b'{"architectures": [["x"]]}', "is not supported"),
    "nested without end": ("config.json", b"[" * 100_000, "not valid JSON"),
    "a number without end": ("generation_config.json", b'{"top_p": 1%s}' % (b"0" * 400), "top_p"),
    "an id without end": ("added_tokens.json", b'{"a": 1e999}', "added tokens make no sense"),
}


@pytest.mark.parametrize("fault", FOUND)
def test_what_was_found(sound: Path, tmp_path: Path, fault: str) -> None:
    name, data, message = FOUND[fault]
    path = model_with(sound, name, data, tmp_path / "m")
    with pytest.raises(ModelError, match=message) as caught:
        mutants.exercise(path)
    assert name in str(caught.value) or name == "chat_template.jinja"


def test_a_context_beyond_reason_takes_no_memory(sound: Path, tmp_path: Path) -> None:
    config = (sound / "config.json").read_bytes().replace(b'dings": 64', b'dings": 4294967296')
    with pytest.raises(ModelError, match="max_position_embeddings must be 1 to 16777216"):
        mutants.exercise(model_with(sound, "config.json", config, tmp_path / "m"))
    spec = mutants.exercise(
        model_with(sound, "model.gguf", (sound / "model.gguf").read_bytes(), tmp_path / "g")
    ).spec
    with pytest.raises(InputError, match="set context_length to 33554432 or less"):
        rope_tables(spec, 1 << 26, mutants.CPU)
