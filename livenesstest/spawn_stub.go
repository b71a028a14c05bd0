//go:build js || wasip1 || ios

package livenesstest

// processes reports whether a program may start another one.
const processes = false
