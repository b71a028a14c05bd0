// Package bench compares the library with what a Go program can use in its place.
//
// It has no code to import. Its tests and benchmarks run on Linux, on loopback; docs/benchmarks.md tells how, and what
// the figures mean. go generate measures everything, and fills the tables of docs/ and the charts; it takes a quarter of an hour.
//
// TestCompare takes two minutes. With -short it checks the library's own columns and the known faults of the alternatives.
// The benchmarks are repeated by a script and not by -count, so that what else the machine does meets all of them alike.
package bench

//go:generate go test -c -o bench.test .
//go:generate sh measure.sh
//go:generate go run ./charts
//go:generate rm bench.test
