// Package afd asks Windows what select and WSAPoll ask for them: the request
// IOCTL_AFD_POLL to \Device\Afd, the driver beneath Winsock. Unlike them it waits
// on a completion port, and unlike a recv it consumes nothing, blocks no thread, and
// leaves the mode of the socket and the completion port of package net alone.
//
// The request is not in Microsoft's documentation. It has been the same since
// Windows 2000, and the event loops of libuv, wepoll and mio stand on it.
//
// On other systems the package is empty.
package afd
