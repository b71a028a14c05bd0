package liveness

import (
	"context"
	"errors"
)

// Ping is not built yet: the error wraps errors.ErrUnsupported.
func (c *Conn) Ping(ctx context.Context) error {
	return opError("ping", c.inner, errors.ErrUnsupported)
}
