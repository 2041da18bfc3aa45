#!/usr/bin/env bash
# Makes the environment in $VENV: `make_env.sh run` what serving needs, `make_env.sh docs` on top of it
# what builds the documentation, `make_env.sh dev` that and the linters and test tools, all as
# constraints.txt pins them. Says plainly what is missing when it cannot. $TORCH_INDEX, if set, is the
# package index from which torch is taken.
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
  [ "$free_mb" -ge "$1" ] || die "$1 MB of free disk are needed for the environment, $free_mb MB are left here"
}

install() {
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" 2>"$VENV/pip.log" ||
    { tail -n 5 "$VENV/pip.log" >&2
      die "the installation failed: pip's last words are above, the rest is in $VENV/pip.log" \
        "(no network? set up pip's index or proxy as usual and run make again)"; }
}

# Where there is no NVIDIA GPU, torch's build for CUDA is 5 GB that nothing uses; pip does not know.
has_gpu() { [ -e /dev/nvidia0 ] || [ -e /dev/dxg ] || command -v nvidia-smi >/dev/null; }

warn_of_cuda() {
  [ "$(uname -s)" = Linux ] && ! has_gpu && [ -z "${TORCH_INDEX:-}" ] || return 0
  say "no NVIDIA GPU is seen here. torch's CPU build is enough and takes 0.8 GB; should pip fetch the"
  say "CUDA build (5 GB), stop it with Ctrl-C and run: make TORCH_INDEX=ADDRESS, with the address that"
  say "torch's own install page shows for Compute Platform CPU"
}

make_venv() {
  local python
  python=$(find_python)
  check_disk 2000
  say "making the environment in $VENV (once; about a GB with torch's CPU build)"
  "$python" -m venv "$VENV" ||
    die "$python cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)"
  warn_of_cuda
}

write_constraints() {
  cp constraints.txt "$VENV/constraints.txt"
  if "$VENV/bin/python" -c 'import triton' 2>/dev/null; then
    # A torch for GPUs brings the Triton that it was built with: that one stays.
    grep -v '^triton==' constraints.txt >"$VENV/constraints.txt"
  fi
}

[ -x "$VENV/bin/python" ] || make_venv
# torch first and pinned exactly: a range could bring in a build for hardware that is not here.
install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
write_constraints
case "${1:-}" in
  run) install --constraint "$VENV/constraints.txt" --editable . ;;
  dev)
    say "installing the linters and test tools (once; 0.8 GB, most of it Triton for the kernels' tests)"
    install --constraint "$VENV/constraints.txt" --editable ".[dev,docs]" ;;
  docs)
    say "installing what builds the documentation (once; 0.1 GB)"
    install --constraint "$VENV/constraints.txt" --editable ".[docs]" ;;
  *) die "usage: make_env.sh run|dev|docs" ;;
esac
