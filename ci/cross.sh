#!/usr/bin/env bash
# Every target of the Go distribution is type-checked, tests included: half a minute. One target of each back end is built and
# vetted; with "all" as argument, every target is, which takes two processors 20 minutes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
targets=(darwin/arm64 freebsd/amd64 js/wasm solaris/amd64 windows/amd64)
export CGO_ENABLED=0 GOGC=400

go run ci/typecheck.go >"$tmp/log" 2>&1 || { grep -v '^ok ' "$tmp/log"; bad=1; }
tail -n 1 "$tmp/log"
if [ "${1:-}" = all ]; then
	mapfile -t targets < <(go tool dist list)
else
	skip "go build and go vet of $(($(go tool dist list | wc -l) - ${#targets[@]})) targets: these are type-checked only (ci/cross.sh all builds them)"
fi

# Programs of some targets are linked by their own C compiler only. There the libraries are built.
build() {
	case $GOOS/$GOARCH in
	ios/* | android/386 | android/amd64 | android/arm)
		go list -e -f '{{if and .GoFiles (ne .Name "main")}}{{.ImportPath}}{{end}}' ./... | xargs go build ;;
	*) go vet ./... && go build -ldflags='-s -w' ./... ;;
	esac
}
for t in "${targets[@]}"; do
	begin=$SECONDS
	if (export GOOS=${t%/*} GOARCH=${t#*/} && build); then
		echo "ok   $t ($((SECONDS - begin)) s)"
	else
		echo "FAIL $t"
		bad=1
	fi
done
exit $bad
