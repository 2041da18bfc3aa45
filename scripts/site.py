"""What the documentation's site has beside docs/, as a hook of MkDocs (`mkdocs.yml`, `make docs`).

Problem: the pages are read in two places. On a code host their links lead anywhere in the
repository (`../src/pellucid/engine.py#L110`); a site holds docs/ and nothing else.

Idea: what a page links to becomes a part of the site. README.md and its neighbours are pages; a
source file that is linked becomes a page with numbered lines, and the link leads to its line; a
recorded result is copied as it is. Of a folder the name remains. If the project names its
repository (`repo_url` in mkdocs.yml), links to sources lead there instead.

A comment `<!-- explorer: run-smollm2-cpu.json#v=1&view=roofline -->` becomes the explorer's page
with that recorded run in it, where the page is built (src/pellucid/web/dist); elsewhere it is
nothing. The line is invisible on a code host.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "src" / "pellucid" / "web" / "dist"
EMBEDDED = ROOT / "frontend" / "src" / "state" / "embedded.ts"
RESULTS = ROOT / "bench" / "results"
PAGES = {
    "index.md": "README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
}
"""Pages of the site → where they lie in the repository."""
LANGUAGES = {".py": "python", ".c": "c", ".sh": "bash", ".ts": "ts", ".tsx": "ts", ".toml": "toml"}

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^(```.*?^```)", re.M | re.S)
EXPLORER = re.compile(r"<!-- explorer: (\S+?\.json)(#\S*)? -->")
FRAME = (
    '<iframe class="explorer" src="{src}" title="The explorer with a recorded run" loading="lazy" '
    'style="width:100%;height:56rem;border:1px solid #8884;border-radius:6px"></iframe>'
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/, and every file that a page links to."""
    for name, source in PAGES.items():
        files.append(File.generated(config, name, content=read(ROOT / source)))
    for page in list(files.documentation_pages()):
        text = page.content_string
        for _, target, _ in LINK.findall(text):
            add_source(files, config, repository_path(page.src_uri, target))
        for name, anchor in EXPLORER.findall(text):
            if (DIST / "index.html").is_file():
                path = explorer_path(name, anchor)
                if path not in files.src_uris:
                    html = explorer(RESULTS / name, anchor)
                    files.append(File.generated(config, path, content=html))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them."""
    here = page.file.src_uri

    def relink(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        address = resolve(here, target, anchor, config, files)
        return f"[{text}]({address})" if address else text

    def embed(match: re.Match[str]) -> str:
        path = explorer_path(match[1], match[2] or "")
        src = posixpath.relpath(path, posixpath.dirname(here) or ".")
        return FRAME.format(src=src) if path in files.src_uris else ""

    parts = FENCE.split(markdown)  # code stays as it is
    parts[::2] = [EXPLORER.sub(embed, LINK.sub(relink, part)) for part in parts[::2]]
    return "".join(parts)


def resolve(here: str, target: str, anchor: str, config: MkDocsConfig, files: Files) -> str:
    """The address of a link on page `here`; empty if the site has nothing there."""
    path = repository_path(here, target)
    if not path or "://" in target:
        return target + anchor
    inside = site_path(path)
    if inside not in files.src_uris:
        if config.repo_url and not path.startswith("docs/"):
            return f"{config.repo_url.rstrip('/')}/blob/HEAD/{path}{anchor}"
        return "" if (ROOT / path).is_dir() else target + anchor  # strict mode names what is broken
    if inside.startswith("source/"):
        anchor = re.sub(r"^#L(\d+).*", r"#__codelineno-0-\1", anchor)
    return posixpath.relpath(inside, posixpath.dirname(here) or ".") + anchor


def repository_path(page: str, target: str) -> str:
    """Where in the repository a link of a page leads, `page` as the site names it."""
    if "://" in target or target.startswith(("/", "mailto:")):
        return ""
    source = PAGES.get(page, f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return "" if path.startswith("..") else path


def site_path(path: str) -> str:
    """The file of the site that shows a file of the repository."""
    for page, source in PAGES.items():
        if path == source:
            return page
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if Path(path).suffix == ".json":
        return path
    return f"source/{path}.md"


def add_source(files: Files, config: MkDocsConfig, path: str) -> None:
    """A page of a source file with numbered lines; data is copied."""
    inside = site_path(path)
    full = ROOT / path
    if path.startswith("docs/") or inside in files.src_uris or not full.is_file():
        return
    if config.repo_url:
        return
    if full.suffix == ".json":
        files.append(File.generated(config, inside, abs_src_path=str(full)))
        return
    language = LANGUAGES.get(full.suffix, "text")
    text = read(full).rstrip("\n")
    fence = "`" * (3 + max(map(len, re.findall(r"`{3,}", text)), default=0))
    page = (
        f"---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n# `{path}`\n\n"
        f'{fence}{language} linenums="1"\n{text}\n{fence}\n'
    )
    file = File.generated(config, inside, content=page)
    file.inclusion = file.inclusion.NOT_IN_NAV
    files.append(file)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# --- the explorer in a file ----------------------------------------------------------------------


def explorer_path(name: str, anchor: str) -> str:
    """The file of the site that holds the explorer with a run, as a link of the page opens it."""
    view = re.sub(r"\W+", "-", anchor).strip("-")
    return f"explorer/{name.removesuffix('.json')}{'-' + view if view else ''}.html"


def explorer(path: Path, anchor: str) -> str:
    """The built page with a recorded run inside: what its own export writes
    (frontend/src/export/single.ts), which asks nobody for anything."""
    built = read(DIST / "index.html")
    script = read(DIST / re.findall(r'<script[^>]* src="([^"]+)"', built)[0])
    style = read(DIST / re.findall(r'<link rel="stylesheet"[^>]* href="([^"]+)"', built)[0])
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<title>{path.stem}</title>",
            f"<style>{inside(style, 'style')}</style>",
            '<script id="pellucid-data" type="application/json">'
            + json.dumps(embedded(path, anchor)).replace("<", "\\u003c")
            + "</script>",
            '</head><body><div id="app"></div>',
            f'<script type="module">{inside(script, "script")}</script>',
            "</body></html>\n",
        ]
    )


def embedded(path: Path, anchor: str) -> dict[str, Any]:
    """The run, its answers and its calibration, as an exported page carries them. What else such a
    page may carry (`Embedded` in the page's sources names it) is left empty."""
    from pellucid.explore import runfile
    from pellucid.explore.answer import answers_of

    run = runfile.read(path)
    fits = [json.loads(read(file)) for file in RESULTS.glob("calibrated-*.json")]
    lists = re.findall(r"readonly (\w+): readonly", read(EMBEDDED))
    return {
        **{name: [] for name in lists},
        "runs": [{"run": run, "kind": "recorded", "answers": answers_of(run, "recorded")}],
        "calibrations": [fit for fit in fits if fit["run"] == run["id"]],
        "hash": anchor,
    }


def inside(text: str, tag: str) -> str:
    """Text as it may stand within a tag, without ending it."""
    return text.replace(f"</{tag}", f"<\\/{tag}")
