module github.com/go-liveness/liveness/examples/websocket

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/go-liveness/liveness v0.0.0
)

require golang.org/x/sys v0.49.0 // indirect

replace github.com/go-liveness/liveness => ../../
