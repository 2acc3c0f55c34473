// Package brokertest starts real NATS servers for tests.
package brokertest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Broker is a nats-server on loopback, on a port of its own, which it keeps when it is started again.
type Broker struct {
	t       testing.TB
	port    string
	more    []string
	process *exec.Cmd
}

// Start starts one, which ends with the test. arguments are the server's.
func Start(t testing.TB, arguments ...string) *Broker {
	t.Helper()
	b := &Broker{t: t, port: "-1", more: arguments}
	b.Restart()
	t.Cleanup(b.Stop)
	return b
}

// URL is where it listens.
func (b *Broker) URL() string { return "nats://127.0.0.1:" + b.port }

// Restart starts it again after Stop.
func (b *Broker) Restart() {
	b.t.Helper()
	b.process = exec.Command(program(b.t), append([]string{"-a", "127.0.0.1", "-p", b.port}, b.more...)...)
	output, err := b.process.StderrPipe()
	if err == nil {
		err = b.process.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	var log strings.Builder
	for lines := bufio.NewScanner(output); lines.Scan(); {
		log.WriteString(lines.Text() + "\n")
		if _, port, found := strings.Cut(lines.Text(), "Listening for client connections on 127.0.0.1:"); found {
			b.port = port
		}
		if strings.Contains(lines.Text(), "Server is ready") {
			go io.Copy(io.Discard, output)
			return
		}
	}
	b.t.Fatalf("nats-server did not start:\n%s", log.String())
}

// Stop kills it.
func (b *Broker) Stop() {
	b.process.Process.Kill()
	b.process.Wait()
}

// program is NYLON_NATS_SERVER, or what the repository's environment has, or what is on the PATH.
func program(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("NYLON_NATS_SERVER"); path != "" {
		return path
	}
	_, here, _, _ := runtime.Caller(0)
	own := filepath.Join(filepath.Dir(here), "..", "..", "..", "..", ".venv", "bin", "nats-server")
	if _, err := os.Stat(own); err == nil {
		return own
	}
	path, err := exec.LookPath("nats-server")
	if err != nil {
		t.Fatal("the tests of workers need nats-server: run make build, or set NYLON_NATS_SERVER")
	}
	return path
}
