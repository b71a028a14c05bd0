module github.com/go-liveness/liveness/livenessprom

go 1.26.0

require github.com/go-liveness/liveness v0.0.0-00010101000000-000000000000

require github.com/prometheus/client_golang v1.25.0 // indirect

replace github.com/go-liveness/liveness => ../
