#!/usr/bin/env bash
# gofmt, go vet and go mod tidy for every module, and staticcheck: the root as six systems see it. What all of them call unused is
# unused.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
systems=(linux/amd64 windows/amd64 darwin/arm64 freebsd/amd64 solaris/amd64 js/wasm)

out=$(gofmt -l . 2>&1)
[ -z "$out" ] || { printf 'not formatted:\n%s\n' "$out"; bad=1; }
for file in ci/*.sh .ci/run; do bash -n "$file" || bad=1; done
if command -v shellcheck >/dev/null; then shellcheck -S error ci/*.sh .ci/run || bad=1; fi
export GOGC=400
GOBIN=$tmp twice go install "$staticcheck" || fail "no staticcheck"
for file in ci/*.go; do go vet "$file" || bad=1; done
for dir in . $(nested); do
	echo "== $dir"
	(cd "$dir" && twice go mod download && twice go mod tidy -diff && go vet ./...) || bad=1
	[ "$dir" = . ] || (cd "$dir" && "$tmp/staticcheck" ./...) || bad=1
done
echo "== staticcheck: ${systems[*]}"
for t in "${systems[@]}"; do
	echo "${t%/*}: GOOS=${t%/*} GOARCH=${t#*/} CGO_ENABLED=0"
done | "$tmp/staticcheck" -matrix ./... || bad=1
exit $bad
