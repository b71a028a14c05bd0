module github.com/go-liveness/liveness/examples/grpc

go 1.26.0

require (
	github.com/go-liveness/liveness v0.0.0
	github.com/go-liveness/liveness/livenessgrpc v0.0.0
	google.golang.org/grpc v1.85.0
)

replace (
	github.com/go-liveness/liveness => ../../
	github.com/go-liveness/liveness/livenessgrpc => ../../livenessgrpc
)
