package keepalive

import "golang.org/x/sys/unix"

func systemOptions() options {
	return sunOptions(unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT)
}
