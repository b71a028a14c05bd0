package docs

// The packages that the pages use by these names. Others are not found by the test of
// their code.
import (
	_ "context"
	_ "crypto/tls"
	_ "database/sql"
	_ "database/sql/driver"
	_ "errors"
	_ "fmt"
	_ "io"
	_ "log"
	_ "log/slog"
	_ "net"
	_ "net/http"
	_ "testing"
	_ "time"

	_ "github.com/coder/websocket"
	_ "github.com/go-liveness/liveness"
	_ "github.com/go-liveness/liveness/livenessdebug"
	_ "github.com/go-liveness/liveness/livenessgrpc"
	_ "github.com/go-liveness/liveness/livenessprom"
	_ "github.com/go-liveness/liveness/livenesstest"
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/redis/go-redis/v9"
	_ "golang.org/x/net/netutil"
	_ "google.golang.org/grpc"
)
