package liveness

import "github.com/go-liveness/liveness/internal/errno"

func isShut(err error) bool { return errno.IsShut(err) }
func isEnd(err error) bool  { return errno.IsEnd(err) }
