#!/usr/bin/env bash
# The tests on Debian's kernels 5.10, 6.1, 6.12 and the newest, under user-mode Linux, two at a time, and the measured limits of the
# time-outs as a table (docs/kernels.md). With "full": all tests, and the stock kernels of the same suites under KVM or qemu, too.
# LIVENESS_KERNELS selects suites, LIVENESS_KERNEL_RUN the root's tests.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
suites=(${LIVENESS_KERNELS:-bullseye bookworm trixie sid}) kernels=()
packages=(. ./internal/keepalive ./internal/tcpinfo ./internal/poller ./livenesstest)
declare -A only=([conformance]=Conn/tcp4 [liveness]=${LIVENESS_KERNEL_RUN:-'^(Test(Endings|Check.*|VanishedPeer.*|PeerThat.*)$|Example)'})
export BOOT_LIMIT=200
for suite in "${suites[@]}"; do kernels+=("user-mode-linux/$suite"); done
if [ "${1:-}" = full ]; then
	packages=(. ./internal/... ./livenesstest) only=([liveness]=${LIVENESS_KERNEL_RUN:-.}) BOOT_LIMIT=1500
	for suite in "${suites[@]}"; do kernels+=("linux-image-cloud-amd64/$suite"); done
	skip "32-bit programs on user-mode Linux: it runs none"
else
	skip "MPTCP, two processors, 32-bit programs and many of the root's tests on Debian's kernels (ci/kernels.sh full runs them under qemu)"
fi

export CGO_ENABLED=0 && mkdir "$tmp/suite" "$tmp/log"
go test -c -o "$tmp/suite/" "${packages[@]}" >/dev/null && (cd internal/conformance && go test -c -o "$tmp/suite/" .) &&
	go build -o "$tmp/suite/" ./examples/vanish && go build -o "$tmp/suite/" ci/matrix.go && GOARCH=386 go test -c -o "$tmp/suite/liveness.386" . ||
	fail "cannot build the tests"
commands=("run vanish sh -c './vanish && echo --- PASS: vanish'" "run matrix sh -c './matrix || { echo --- FLAKY: matrix; ./matrix; } && echo --- PASS: matrix'")
for name in $(cd "$tmp/suite" && ls -S -r ./*.test | sed 's|^\./||; s|\.test$||'); do # the smallest first
	# The fake kqueue is the same everywhere.
	commands+=("run $name ./$name.test -test.v -test.short -test.parallel=32 -test.timeout=$((BOOT_LIMIT / 2))s -test.run='${only[$name]:-.}' -test.skip='^TestKqueue'")
done
commands+=("! ./liveness.386 -test.run=none || run liveness-386 ./liveness.386 -test.v -test.short -test.timeout=10m -test.run='${only[liveness]}'")
boot() { ci/boot.sh "${kernels[$1]}" "$tmp/suite" "${commands[@]}" >"$tmp/log/$1" 2>&1; grep -aq '^DONE' "$tmp/log/$1"; }
for i in "${!kernels[@]}"; do
	[ "$i" -lt 2 ] || wait -n # two at a time; a guest that hangs gets a second chance
	{ boot "$i" || { echo "FLAKY: ${kernels[i]} hung" && boot "$i"; }; } &
done
wait
for i in "${!kernels[@]}"; do guest_results "${kernels[i]}" "$tmp/log/$i"; done
"$tmp/suite/matrix" -head
grep -ahE '^\| [0-9]' "$tmp/log/"*
finish
