module github.com/go-liveness/liveness/internal/conformance

go 1.26.0

require (
	github.com/go-liveness/liveness v0.0.0
	github.com/pires/go-proxyproto v0.8.1
	github.com/soheilhy/cmux v0.1.5
	golang.org/x/net v0.50.0
)

require (
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.34.0 // indirect
)

replace github.com/go-liveness/liveness => ../..
