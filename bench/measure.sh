# Writes what docs/benchmarks.md is made of. Run it by go generate. ROUNDS=1 is for a trial.
set -eu
out=../docs/bench
./bench.test -test.run TestCompare -test.v -results $out/compare.csv
for round in $(seq "${ROUNDS:-5}"); do
	for connstate in false true; do
		./bench.test -test.run '^$' -test.bench 'Ask|Wrap|Many|FIN' -connstate=$connstate -test.timeout 30m
	done
done >$out/bench.txt
./bench.test -test.run '^$' -test.bench Growth -growth -test.benchtime 1x -test.timeout 30m >>$out/bench.txt
