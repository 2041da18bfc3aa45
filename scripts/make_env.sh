#!/usr/bin/env bash
# Makes the environment in $VENV: finds a Python, checks what is needed, installs what
# constraints.txt pins. Says plainly what is missing when it cannot.
set -euo pipefail

say() { echo "pellucid: $*" >&2; }
die() { say "$*"; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  for candidate in "$PYTHON" python3 python3.14 python3.13 python3.12 python3.11; do
    if new_enough "$candidate"; then echo "$candidate"; return; fi
  done
  die "Python 3.11 or newer is needed, found $("$PYTHON" --version 2>&1 || echo none);" \
    "install one and run: make PYTHON=/path/to/python3.11"
}

check_disk() {
  local free_mb
  free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
  [ "$free_mb" -ge 3000 ] || die "3 GB of free disk are needed for the environment, $free_mb MB are left here"
}

install() {
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" 2>"$VENV/pip.log" ||
    { tail -n 5 "$VENV/pip.log" >&2
      die "the installation failed: pip's last words are above, the rest is in $VENV/pip.log" \
        "(no network? set up pip's index or proxy as usual and run make again)"; }
}

python=$(find_python)
if [ ! -x "$VENV/bin/python" ]; then
  check_disk
  say "making the environment in $VENV (once; about a GB)"
  "$python" -m venv "$VENV" ||
    die "$python cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)"
fi
# torch first and pinned exactly: a range could bring in a build for hardware that is not here.
install "$(grep '^torch==' constraints.txt)"
cp constraints.txt "$VENV/constraints.txt"
if "$VENV/bin/python" -c 'import triton' 2>/dev/null; then
  # A torch for GPUs brings the Triton that it was built with: that one stays.
  grep -v '^triton==' constraints.txt >"$VENV/constraints.txt"
fi
install --constraint "$VENV/constraints.txt" --editable ".[dev]"
