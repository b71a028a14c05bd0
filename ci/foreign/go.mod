module github.com/go-liveness/liveness/ci/foreign

go 1.26.0
