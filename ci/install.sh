#!/usr/bin/env bash
# Installs the Debian packages that the steps of the gate need, all at once and before the steps whose time is limited: apt that is
# killed leaves packages half installed. Each step also installs what it lacks when it runs alone.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
wanted=() # programs, with their packages
for pair in ip:iproute2 sysctl:procps nft:nftables qemu-aarch64-static:qemu-user-static x86_64-w64-mingw32-gcc:gcc-mingw-w64-x86-64-win32 chromium:chromium; do
	command -v "${pair%:*}" >/dev/null || wanted+=("${pair#*:}")
done
[ -d livenessdebug ] || wanted=("${wanted[@]/#chromium/}")
wanted=(${wanted[*]})
echo "missing: ${wanted[*]:-nothing}"
[ "${#wanted[@]}" = 0 ] || apt_install "${wanted[@]}"
