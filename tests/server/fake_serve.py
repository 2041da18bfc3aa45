"""The real `serve` around a fake engine and tokenizer. Arguments: port, model, whose defaults."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from fake_engine import SPEC, FakeTokenizer

from pellucid.config import EngineConfig
from pellucid.errors import InputError
from pellucid.server import launch, serve

WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))

if __name__ == "__main__":
    opened = SimpleNamespace(
        name="fake",
        tokenizer=FakeTokenizer(),
        spec=SPEC,
        sampling_defaults={"temperature": 0.3},
    )
    serve._open = lambda config: opened  # type: ignore[assignment,return-value]
    try:
        sock = launch.bind("127.0.0.1", int(sys.argv[1]))
        first = launch.launch(WORKER)
        options = serve.ServeOptions(sampling_defaults=sys.argv[3])  # type: ignore[arg-type]
        sys.exit(serve.serve(EngineConfig(model=sys.argv[2]), options, sock, first, WORKER))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
