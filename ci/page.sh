#!/usr/bin/env bash
# Page installs Chromium by apt, if there is none, and runs the tests of the debug page that need one. It must run as root
# then. With a folder as its argument it writes the screenshots of the documentation there.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	get=(apt-get -qq -o Acquire::Retries=2 -o DPkg::Lock::Timeout=60)
	"${get[@]}" update
	"${get[@]}" install -y --no-install-recommends chromium fonts-dejavu-core
fi

[ -z "${1:-}" ] || { mkdir -p "$1" && export LIVENESS_SCREENSHOTS="$(cd "$1" && pwd)"; }
out=$(go test -count=1 -v -run '^TestBrowser' ./livenessdebug) || { echo "$out"; exit 1; }
echo "$out"
# A skipped test would show nothing.
! grep -q -e '^--- SKIP' <<<"$out"
