package liveness

// AIX has no MSG_DONTWAIT; the descriptors of package net are non-blocking.
const msgDontWait = 0
