module github.com/go-liveness/liveness/internal/conformance

go 1.26.0

require (
	github.com/go-liveness/liveness v0.0.0
	golang.org/x/net v0.50.0
)

require golang.org/x/sys v0.49.0 // indirect

replace github.com/go-liveness/liveness => ../..
