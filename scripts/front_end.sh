#!/usr/bin/env bash
# Builds the page (`front_end.sh page`) or tests it (`front_end.sh test`), as far as this machine
# can: without Node or Chromium it says by name what it leaves out.
set -euo pipefail
cd "$(dirname "$0")/../frontend"

DIST=../src/pellucid/web/dist
MODULES=node_modules/.package-lock.json

say() { echo "pellucid: $*" >&2; }

# What a newcomer's machine lacks is left out by name; CI must have it.
leave_out() {
  say "skipped: $*"
  [ -z "${CI:-}" ]
}

have_node() {
  command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null
}

install() {
  [ "$MODULES" -nt package-lock.json ] && return
  say "installing the page's tools (once)"
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  touch "$MODULES"
}

stale() { [ ! -f "$DIST/index.html" ] || [ -n "$(find . -path ./node_modules -prune -o -path ./test-results -prune -o -type f -newer "$DIST/index.html" -print -quit)" ]; }

build() {
  stale || return 0
  install
  npm run --silent build
  touch "$DIST/index.html"
}

# Chromium from the system; the test runner's own download is not used.
find_chromium() {
  for name in chromium chromium-browser google-chrome; do
    command -v "$name" && return
  done
  if [ "$(id -u)" = 0 ] && [ -n "${CI:-}" ] && command -v apt-get >/dev/null; then
    say "installing Chromium (once)"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 || true
    command -v chromium
  fi
}

without_node() {
  if [ -f "$DIST/index.html" ]; then
    if stale; then say "the page is older than frontend/; building it again needs Node 20 or newer with npm"; fi
  else
    say "the page is not built: that needs Node 20 or newer with npm (Debian: apt install nodejs npm)."
    say "Everything else works without. A released wheel has the page in it"
  fi
}

page() {
  if have_node; then build; else without_node; fi
}

tests() {
  have_node || { leave_out "type check, unit and browser tests of the page (no Node 20 or newer with npm)"; return; }
  install
  npm run --silent check
  npm run --silent test
  build
  npm run --silent size
  local chromium
  chromium=$(find_chromium || true)
  [ -n "$chromium" ] || { leave_out "browser tests of the page (no Chromium; Debian: apt install chromium)"; return; }
  CHROMIUM="$chromium" npm run --silent e2e
}

case "${1:-}" in
  page) page ;;
  test) tests ;;
  *) say "usage: front_end.sh page|test"; exit 2 ;;
esac
