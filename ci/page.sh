#!/usr/bin/env bash
# The page of livenessdebug in a real browser.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -d livenessdebug ] || skip_all "there is no livenessdebug"
command -v chromium >/dev/null || { need_root; apt_install chromium; }
go test -count=1 -v -timeout 3m ./livenessdebug >"$tmp/log" 2>&1 || bad=$?
summary "page" "$tmp/log" "$bad"
