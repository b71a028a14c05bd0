module github.com/go-liveness/liveness/examples/dashboard

go 1.26.0

require (
	github.com/go-liveness/liveness v0.0.0
	github.com/go-liveness/liveness/livenessprom v0.0.0
	github.com/prometheus/client_golang v1.25.0
)

replace (
	github.com/go-liveness/liveness => ../../
	github.com/go-liveness/liveness/livenessprom => ../../livenessprom
)
