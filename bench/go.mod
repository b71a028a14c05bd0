module github.com/go-liveness/liveness/bench

go 1.26.0

require (
	github.com/cloudwego/gopkg v0.2.0
	github.com/cloudwego/netpoll v0.7.2
	github.com/go-liveness/liveness v0.0.0-00010101000000-000000000000
	github.com/google/pprof v0.0.0-20261016150608-1facf8f91b50
	github.com/lesismal/nbio v1.6.8
	github.com/murfffi/conncheck v0.2.0
	github.com/panjf2000/gnet/v2 v2.7.2
	go.uber.org/zap v1.27.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
	github.com/bytedance/gopkg v0.1.4 // indirect
	github.com/panjf2000/ants/v2 v2.11.0 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/perf v0.0.0-20260908200009-22c9c6c9d4da // indirect
	golang.org/x/sync v0.11.0 // indirect
	gopkg.in/natefinch/lumberjack.v2 v2.2.1 // indirect
)

replace github.com/go-liveness/liveness => ../

tool golang.org/x/perf/cmd/benchstat
