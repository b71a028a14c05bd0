package liveness

// A look through Winsock is not built yet; until then a connection shows what
// Read, Write and Close show. It will be an AFD poll with no time to wait:
// recv with MSG_PEEK blocks on an idle socket of package net, which is in blocking
// mode and overlapped, and Close would then wait for it.
