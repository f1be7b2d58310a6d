package dynamo

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

func TestManual(t *testing.T) {
	if os.Getenv("MANUAL") == "" {
		return
	}
	f := newFixture(t)
	ln, _ := net.Listen("tcp", "127.0.0.1:7999")
	os.WriteFile("/tmp/dyn.env", []byte(fmt.Sprintf("export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s AWS_REGION=oregon AWS_DEFAULT_REGION=oregon AWS_ENDPOINT_URL=http://127.0.0.1:7999\n", f.key.ID, f.key.Secret)), 0o600)
	go f.server.Serve(context.Background(), ln)
	time.Sleep(100 * time.Second)
}
