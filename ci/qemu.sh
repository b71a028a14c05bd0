#!/usr/bin/env bash
# Other processors, byte orders and system call conventions, under qemu's user mode. The emulator's TCP_INFO is an int.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# An example cannot skip itself.
lacking='^Example(Conn_Ping|Config_peerTimeout)$'
# A fork of a program with many threads hangs in the emulator at times.
hung() { grep -q 'os.StartProcess' "$1"; }
export CGO_ENABLED=0

command -v qemu-aarch64-static >/dev/null || { need_root; apt_install qemu-user-static; }
skip "$lacking: the emulator has no IP_MINTTL to cut a cable with, and no ages in TCP_INFO"
for pair in arm64:aarch64 arm:arm riscv64:riscv64 ppc64le:ppc64le s390x:s390x; do
	export GOARCH=${pair%:*}
	qemu=qemu-${pair#*:}-static
	compiled . || { bad=1; continue; }
	case $GOARCH in arm | s390x) # 32 bits, and the other byte order
		for pkg in ./internal/poller ./internal/tcpinfo; do foreign "$GOARCH" "$qemu" "$pkg" -short -timeout 60s; done ;;
	esac
	foreign "$GOARCH" "$qemu" . -short -parallel 96 -timeout 110s -skip "$lacking"
done
finish
