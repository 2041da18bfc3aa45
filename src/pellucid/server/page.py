"""The page's files, as a browser is given them.

The page is built from `frontend/` and travels inside the wheel. A checkout without a build answers
with a page that says what to run. Files under /assets/ have their content's hash in their name and
never change; the page itself is asked for anew each time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

DIST = Path(__file__).parents[1] / "web" / "dist"
POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from anywhere else, no script in the page itself."""
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
MISSING = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>pellucid</title>
<h1>The page is not built</h1>
<p>This is a checkout without it. Run <code>make page</code> (it needs Node 20 and npm), then load
this address again. The API works without the page: see <a href="/health">/health</a> and
<code>/v1</code>.</p>
</html>
"""


def index() -> Response:
    """The page, or what to run to get it."""
    path = DIST / "index.html"
    if not path.is_file():
        return HTMLResponse(MISSING, 503, headers={**HEADERS, "cache-control": "no-store"})
    return FileResponse(path, headers={**HEADERS, "cache-control": "no-cache"})


async def asset(request: Request) -> Response:
    """A file of the page's."""
    name = request.path_params["name"]
    path = DIST / "assets" / name
    # Looked for among those that there are: a name from outside can be no path.
    if not (DIST / "assets").is_dir() or name not in os.listdir(DIST / "assets"):
        raise HTTPException(404)
    unchanging = {"cache-control": "public, max-age=31536000, immutable"}
    return FileResponse(path, headers={**HEADERS, **unchanging})
