#!/usr/bin/env bash
# The root's tests in a sandbox with a network stack of its own, which poses as Linux. Not part of the gate: to build it takes
# minutes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
runsc=gvisor.dev/gvisor/runsc@v0.0.0-20260527191743-a81fd9dd382e # of the branch that the go command can build
lacking=
need_root
export CGO_ENABLED=0 # with cgo, runsc is killed by its own filter of system calls

# without TESTS REASON leaves out tests of what the sandbox has not.
without() {
	lacking+=${lacking:+|}$1
	skip "$1: $2"
}
without 'TestNothingIsLeftAfterTheLastClose|TestAcceptWithoutDescriptorsIsTemporary|TestNothingIsAskedWhileNothingHappens' \
	'its epoll does not report a FIN, so the library sweeps'
without 'ExampleConn_Ping|ExampleConfig_(peer|stall)Timeout' 'its TCP_INFO and SIOCOUTQ are empty, and an example cannot skip itself'
without 'TestChecksTakeNothing|TestEveryOrderOfEventsIsToldAsItWas' 'a check has to take the error of the socket, and a write behind a RST returns EPIPE'
without 'TestEndings/(peer_resets|FIN_and_reset|peer_is_killed_with).*/unix|TestNoEndings/.*/unix/reset|TestReadDeliversResetAfterWriteTookIt/unix' \
	'its poll reports no error of an AF_UNIX socket'
GOBIN=$tmp twice go install "$runsc" || fail "cannot build $runsc"
foreign gVisor "$tmp/runsc --network=none --ignore-cgroups do --" . -timeout 5m -skip "$lacking"
exit $bad
