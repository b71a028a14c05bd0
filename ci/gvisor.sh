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
without 'TestHubStopsAndStarts|TestNothingIsLeft|TestCloseUnregisters|TestAcceptWithoutDescriptors|TestNoDoubt|TestEventsAreBelieved' \
	'its epoll does not report a FIN, so the library sweeps'
without 'TestStatusSystemCalls|TestStatus/Queues|TestStatus/(Errors|AfterTheEnd)/stalled|TestTimers/ReadIdleBehindFullBuffer|TestTimers/NotStalled/a_slow_reader|ExampleConn_Ping' \
	'its TCP_INFO and SIOCOUTQ are empty'
without 'TestRoutes|TestNoEndingsLinux/(time_stamps|completions)|ExampleErrPeerLost' 'it has no veth, time stamps, MSG_ZEROCOPY and IP_MINTTL'
without 'TestLooksLeaveNoTrace|TestInterleavingsOnKernel' 'a check has to take the error of the socket, and a write behind a RST returns EPIPE'
without 'TestEndings/(reset|FIN,_then_reset|killed_with).*/unix|TestNoEndings/.*/unix,.*reset|TestCheck/reset,unix|TestResetNeverReadsAsComplete/unix|TestReset(BehindFIN|Taken)OnUnix' \
	'its poll reports no error of an AF_UNIX socket'
GOBIN=$tmp twice go install "$runsc" || fail "cannot build $runsc"
foreign gVisor "$tmp/runsc --network=none --ignore-cgroups do --" . -timeout 5m -skip "$lacking"
exit $bad
