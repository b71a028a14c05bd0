// Package bench compares the library with what a Go program can use in its place.
//
// It has no code to import. Its tests and benchmarks run on Linux, on loopback:
//
//	go test -run TestCompare -v .       the table of situations × alternatives
//	go test -run '^$' -bench . .        ordinary benchmarks, for benchstat
//	go test -run TestGrowth -growth .   how the cost grows with the number of connections
//	go generate .                       all of these, the tables of docs/ and the charts; half an hour
//
// TestCompare takes about two minutes, and with -short it checks the library's own columns and the known faults of the
// alternatives. The benchmarks are repeated by a loop and not by -count, so that what else the machine does meets all
// of them alike.
package bench

//go:generate go test -c -o bench.test .
//go:generate sh -c "./bench.test -test.run TestCompare -test.v -results ../docs/bench/compare.csv"
//go:generate sh -c "for i in 1 2 3 4 5; do ./bench.test -test.run '^$' -test.bench . -test.timeout 30m || exit 1; done > ../docs/bench/bench.txt"
//go:generate sh -c "./bench.test -test.run TestGrowth -test.v -growth -results ../docs/bench/growth.csv"
//go:generate go run ./charts
//go:generate rm bench.test
