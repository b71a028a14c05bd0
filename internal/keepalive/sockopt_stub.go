//go:build !unix && !windows

package keepalive

import "errors"

func getOption(uintptr, int) (int, error) { return 0, errMissing }

func setOption(uintptr, option) error { return errMissing }

func isMissing(err error) bool { return errors.Is(err, errMissing) }

// isTCP lets the plan fail, which says what is missing.
func isTCP(uintptr) bool { return true }

func onOwnSocket(func(uintptr) error) (made bool, err error) { return true, errMissing }
