# Shell functions of the scripts in this folder. A script sources this file first; it then runs in the root of the module, and
# everything it writes outside of Go's caches goes to $tmp, which is removed, or to $cache, which holds unpacked Debian packages.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$(pwd -P)
export HOME="${HOME:-/root}" GOWORK=off
cache=${XDG_CACHE_HOME:-$HOME/.cache}/liveness-ci
tmp=$(mktemp -d /tmp/liveness-ci.XXXXXX) || exit 1
trap 'rm -rf "$tmp"' EXIT
unset GOOS GOARCH
bad=0 passed=0 # what a script ends with, and the tests that its foreign runs passed

# skip prints what is left out, and why. The gate repeats it at its end.
skip() { echo "SKIPPED: $*"; }

# skip_all leaves out the whole step.
skip_all() {
	skip "$@"
	exit 77
}

fail() {
	echo "FAILED: $*"
	exit 1
}

# twice runs a command that needs the network, and a second time if it fails.
twice() {
	"$@" && return
	echo "failed, trying once more: $*"
	sleep 5
	"$@"
}

# need_root ends a step that installs packages. A contributor may skip it; a machine with CI in its environment may not.
need_root() {
	[ "$(id -u)" = 0 ] && return
	[ -z "${CI:-}" ] || fail "this step needs root"
	skip_all "this step needs root"
}

# apt_install installs packages. It fetches the package lists only if the installation fails without.
apt_install() {
	local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=2 -o DPkg::Lock::Timeout=60)
	"${get[@]}" install -y --no-install-recommends "$@" >"$tmp/apt" 2>&1 && return
	dpkg --configure -a >"$tmp/apt" 2>&1 # an installation that was killed, such as by a step's time limit, wants this
	twice "${get[@]}" update && twice "${get[@]}" install -y --no-install-recommends "$@" >"$tmp/apt" 2>&1 && return
	tail -n 20 "$tmp/apt"
	fail "cannot install $*"
}

# unpack SUITE DIR MODE PACKAGE... unpacks packages of a Debian suite into DIR and leaves the system's own packages alone. MODE is
# "download" for these packages only, and "install" for what they depend on, too.
unpack() {
	local suite=$1 dir=$2 mode=$3 apt=$cache/apt/$1 mirror deb get
	shift 3
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | head -n 1)
	mkdir -p "$apt/lists/partial" "$apt/debs/partial" "$dir/usr/bin" "$dir/usr/lib" "$dir/usr/lib64" "$dir/usr/sbin"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} $suite main" >"$apt/list"
	get=(apt-get -qq -y -d --no-install-recommends -o "Dir::Etc::SourceList=$apt/list" -o Dir::Etc::SourceParts=/dev/null
		-o "Dir::State::Lists=$apt/lists" -o Dir::State::Status=/dev/null -o "Dir::Cache::archives=$apt/debs" -o Dir::Cache::pkgcache=
		-o Dir::Cache::srcpkgcache= -o APT::Keep-Downloaded-Packages=true -o APT::Sandbox::User=root -o Acquire::Languages=none
		-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Retries=2)
	[ -n "$(find "$apt/lists" -name '*Packages*' -mmin -720)" ] || twice "${get[@]}" update || fail "no package lists of $suite"
	rm -f "$apt"/debs/*.deb
	(cd "$apt/debs" && twice "${get[@]}" "$mode" "$@" >"$tmp/apt" 2>&1) || { cat "$tmp/apt"; fail "cannot download $* of $suite"; }
	for deb in "$apt"/debs/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$dir" || fail "cannot unpack $deb"
		rm "$deb"
	done
	for deb in bin lib lib64 sbin; do # Debian's packages rely on these since /usr was merged
		[ -e "$dir/$deb" ] || ln -s "usr/$deb" "$dir/$deb"
	done
}

# nested prints the folders of the modules below the root.
nested() { find . -mindepth 2 -name go.mod -not -path './.git/*' -not -path '*/testdata/*' -printf '%h\n' | sort; }

# compiled compiles packages and their tests with a lazier collector than tests should run with: a quarter less time.
compiled() { GOGC=400 go list -export -deps -test "$@" >/dev/null; }

# gotest FLAGS -- PACKAGE... runs go test. What fails runs once more, alone: what passes then is printed as flaky, for a machine
# that runs other work at the same time delays a test for seconds. A data race, a panic and a leak count at once.
gotest() {
	local flags=() names pkgs log=$tmp/gotest
	while [ "$1" != -- ]; do flags+=("$1"); shift; done
	shift
	go test "${flags[@]}" "$@" 2>&1 | tee "$log" && return
	names=$(sed -n 's/^--- FAIL: \([^ ]*\) .*/\1/p' "$log" | sort -u | paste -sd '|')
	pkgs=$(sed -n 's/^FAIL\t\([^ ]*\)\t.*s$/\1/p' "$log" | sort -u)
	[ -n "$names" ] && [ -n "$pkgs" ] && ! grep -q -e 'build failed' -e 'DATA RACE' -e '^panic:' -e '^fatal error' "$log" || return 1
	echo "once more, alone: $names"
	go test "${flags[@]}" -parallel 2 -run "^($names)\$" $pkgs || return 1
	echo "FLAKY: $names failed, and passed when run alone"
}

# said WORD LOG prints what each test with the outcome WORD (FAIL or SKIP) of a verbose log printed.
said() {
	awk -v word="$1" '
		/^=== (RUN|NAME|CONT) / { name = $3; next }
		/^ *--- / { if ($2 == word ":") { printf "%s", text[$3]; print }; delete text[$3]; name = ""; next }
		/^=== / { name = ""; next }
		name != "" { text[name] = text[name] name ": " $0 "\n" }
	' "$2" | head -c 20000
}

# summary NAME LOG STATUS counts the tests of a verbose log, prints the count, the reasons of skips, and what failed. It fails if a
# test failed or none ran: the exit status alone is 0 if a program that only carries tests runs none.
summary() {
	local name=$1 log=$2 rc=$3 p s f
	p=$(grep -c -e '--- PASS' "$log") s=$(grep -c -e '--- SKIP' "$log") f=$(grep -c -e '--- FAIL' "$log")
	passed=$((passed + p))
	said SKIP "$log" | grep -v -e '--- SKIP' | sed -E 's/^[^:]+: +([^ :]+:[0-9]+: )?//; s/[0-9]{4,}/N/g' | sort | uniq -c | sort -rn | head -n 12 |
		while read -r n why; do skip "$name: $n tests: $why"; done
	sed -n "s/^--- FLAKY: \\([^ ]*\\).*/FLAKY: $(printf %s "$name" | sed 's|[/&\\]|\\&|g'): \\1 failed, and passed when run alone/p" "$log"
	if [ "$rc" = 0 ] && [ "$f" = 0 ] && [ $((p + s)) != 0 ]; then
		echo "ok   $name: $p passed, $s skipped"
		return
	fi
	said FAIL "$log"
	grep -m 1 -A 60 -E '^(panic|fatal error|SIG[A-Z]+):' "$log"
	tail -n 15 "$log"
	echo "FAIL $name: exit status $rc, $p passed, $s skipped, $f failed"
	bad=1
	return 1
}

# foreign NAME RUNNER PACKAGE [FLAG...] runs the tests of a package by way of another program. hung LOG may say that this program
# itself hung, which gives it a second chance.
hung() { false; }
foreign() {
	local name="$1 $3" runner=$2 pkg=$3 log=$tmp/foreign.log rc chance names
	shift 3
	for chance in 1 2; do
		rc=0
		go test -count=1 -v "$@" -exec "$runner" "$pkg" >"$log" 2>&1 || rc=$?
		[ "$chance" = 1 ] && [ "$rc" != 0 ] && ! grep -q -e '--- FAIL' -e 'DATA RACE' "$log" && hung "$log" || break
		echo "$name hung, once more"
	done
	names=$(sed -n 's/^--- FAIL: \([^ ]*\) .*/\1/p' "$log" | sort -u | paste -sd '|')
	if [ "$rc" != 0 ] && [ -n "$names" ] && ! grep -q -e 'DATA RACE' -e '^panic:' -e '^fatal error' "$log"; then
		said FAIL "$log"
		if go test -count=1 -v "$@" -run "^($names)\$" -exec "$runner" "$pkg" >"$log.again" 2>&1; then
			echo "FLAKY: $name: $names failed, and passed when run alone"
			cp "$log.again" "$log"
			rc=0
		fi
	fi
	summary "$name" "$log" "$rc"
}

# finish ends a script that ran foreign tests.
finish() {
	echo "$passed tests passed"
	exit $bad
}

# guest_results KERNEL LOG prints a summary for each program that boot.sh ran.
guest_results() {
	local name rc seconds
	rm -rf "$tmp/guest"
	mkdir "$tmp/guest"
	grep -aE '^KERNEL' "$2" | sed "s|^|$1: |"
	awk -v dir="$tmp/guest/" '
		{ sub(/\r$/, "") }
		/^=BEGIN / { name = $2; next }
		/^=END / { print name, $2, $3 > (dir "=list"); name = ""; next }
		name != "" { print > (dir name) }
	' "$2"
	while read -r name rc seconds; do summary "$1 $name ($seconds s)" "$tmp/guest/$name" "$rc"; done <"$tmp/guest/=list"
	grep -aq '^DONE' "$2" && return
	sed -n '/^=END/h;//!H;${x;p}' "$2" | tail -n 25
	echo "FAIL $1: did not end"
	bad=1
}
