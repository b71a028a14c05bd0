package livenesstest_test

import "golang.org/x/sys/windows"

func init() { supersedesFIN = windows.WSAECONNRESET }
