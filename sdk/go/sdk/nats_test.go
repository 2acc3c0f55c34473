package sdk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/AssetsArt/nylon/sdk/go/internal/brokertest"
	"github.com/AssetsArt/nylon/sdk/go/internal/worker"
)

const patience = 20 * time.Second

// withoutEnvironment takes away what whoever runs the tests has set.
func withoutEnvironment(t *testing.T) {
	for _, name := range []string{
		"NATS_SERVERS", "NATS_GROUP", "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDS", "NATS_NKEY",
		"NATS_CA", "NATS_CERT", "NATS_KEY", "NATS_TLS_HOSTNAME",
	} {
		t.Setenv(name, "")
	}
}

// settingsOf are what the options come to, and how many options of a connection.
func settingsOf(t *testing.T, servers, group string, options ...NatsOption) (worker.Settings, error) {
	t.Helper()
	all := defaults()
	for _, option := range options {
		option(&all)
	}
	return all.settings(servers, group)
}

func TestWhatIsGivenWinsOverTheEnvironment(t *testing.T) {
	withoutEnvironment(t)
	settings, err := settingsOf(t, "", "g")
	if err != nil || strings.Join(settings.Servers, " ") != nats.DefaultURL {
		t.Errorf("%v, %v", settings.Servers, err)
	}
	t.Setenv("NATS_SERVERS", "nats://a:1, nats://b:2")
	t.Setenv("NATS_GROUP", "env")
	if settings, err = settingsOf(t, "", ""); err != nil || settings.Group != "env" ||
		strings.Join(settings.Servers, " ") != "nats://a:1 nats://b:2" {
		t.Errorf("%v %q, %v", settings.Servers, settings.Group, err)
	}
	if settings, err = settingsOf(t, "nats://c:3", "given"); err != nil || settings.Group != "given" ||
		strings.Join(settings.Servers, " ") != "nats://c:3" {
		t.Errorf("%v %q, %v", settings.Servers, settings.Group, err)
	}
	t.Setenv("NATS_PASSWORD", "the other half")
	if _, err = settingsOf(t, "nats://c:3", "g", WithUser("u", "")); err != nil {
		t.Error(err)
	}
	t.Setenv("NATS_PASSWORD", "")
	t.Setenv("NATS_TOKEN", "t0ken")
	for name, options := range map[string][]NatsOption{"none": nil, "a user": {WithUser("u", "p")}} {
		if settings, err = settingsOf(t, "nats://c:3", "g", options...); err != nil || len(settings.Connect) != 1 {
			t.Errorf("with %s: %d options, %v", name, len(settings.Connect), err)
		}
	}
	if settings, err = settingsOf(t, "nats://u:p@c:3", "g"); err != nil || len(settings.Connect) != 0 {
		t.Errorf("with a user in the URL: %d options, %v", len(settings.Connect), err)
	}
}

func TestSettingsThatCannotWorkAreErrorsThatNameThem(t *testing.T) {
	withoutEnvironment(t)
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		servers, group string
		option         NatsOption
		says           string
	}{
		"no group":              {"", "", WithConcurrency(1), "NATS_GROUP"},
		"no servers":            {" , ", "g", WithConcurrency(1), "servers"},
		"no URL":                {"nats://u:s3cret@a:no-port", "g", WithConcurrency(1), "nats://a:no-port"},
		"no concurrency":        {"", "g", WithConcurrency(0), "concurrency"},
		"a negative drain":      {"", "g", WithDrainTimeout(-1), "drain timeout"},
		"half a user":           {"", "g", WithUser("u", ""), "NATS_PASSWORD"},
		"two ways":              {"nats://u:p@a:1", "g", WithToken("t"), "more than one way"},
		"no credentials":        {"", "g", WithCredentials("/nowhere"), "/nowhere"},
		"no nkey":               {"", "g", WithNkeySeed(junk), junk},
		"no authority":          {"", "g", WithTLS(TLSFiles{CA: junk}), junk},
		"a certificate alone":   {"", "g", WithTLS(TLSFiles{Cert: junk}), "NATS_KEY"},
		"a certificate of junk": {"", "g", WithTLS(TLSFiles{Cert: junk, Key: junk}), "certificate"},
		"a group of two tokens": {"", "a.b", WithConcurrency(1), "a.b"},
		"a prefix that is wild": {"", "g", WithSubjectPrefix("*"), "*"},
	} {
		plugin, err := NewNatsPlugin(c.servers, c.group, c.option)
		if err == nil {
			plugin.Close()
			t.Errorf("%s: no error", name)
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error tells the password", name)
		}
	}
}

func TestTLSThatIsAskedForIsInsistedOn(t *testing.T) {
	withoutEnvironment(t)
	b := brokertest.Start(t)
	plugin, err := NewNatsPlugin(b.URL(), "g", WithTLS(TLSFiles{}))
	if err == nil {
		plugin.Close()
		t.Fatal("it has connected in the clear")
	}
	if !errors.Is(err, nats.ErrSecureConnWanted) {
		t.Error(err)
	}
}

func TestTheVersionIsThatOfTheRepository(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "Cargo.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\nversion = \""+Version+"\"\n") {
		t.Errorf("Cargo.toml does not say %s", Version)
	}
}

// log is a logger whose text can be read while it is written.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(data)
}

func (l *log) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		l.mu.Lock()
		found := strings.Contains(l.text.String(), text)
		l.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the log does not say %q:\n%s", text, l.text.String())
		}
	}
}

func pass(phase *PhaseHandler) { phase.RequestFilter(func(ctx *PhaseRequestFilter) { ctx.Next() }) }

func TestAWorkerServesByItselfOnceItIsRegisteredAndTakesLaterEntries(t *testing.T) {
	withoutEnvironment(t)
	b, written := brokertest.Start(t), &log{}
	plugin, err := NewNatsPlugin(b.URL(), "g", WithLogger(slog.New(slog.NewTextHandler(written, nil))))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	announced := make(chan string, 10)
	if _, err := conn.Subscribe("nylon.g.workers", func(m *nats.Msg) { announced <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	shut := false
	plugin.Shutdown(func() { shut = true })
	plugin.AddPhaseHandler("one", pass)
	written.await(t, "serving")
	plugin.AddPhaseHandler("two", pass)
	for text := ""; !strings.Contains(text, "two"); {
		select {
		case text = <-announced:
			if !strings.Contains(text, "one") {
				t.Errorf("%q", text)
			}
		case <-time.After(patience):
			t.Fatal("the second entry is not announced")
		}
	}
	if err := plugin.Close(); err != nil || !shut {
		t.Errorf("%v, shut down: %v", err, shut)
	}
	if err := plugin.Close(); err != nil {
		t.Error(err)
	}
}

func TestRunEndsWithItsContextAndTellsWhatIsWrong(t *testing.T) {
	withoutEnvironment(t)
	b, quiet := brokertest.Start(t), WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	broken := errors.New("no database")
	for name, c := range map[string]struct {
		register func(plugin *NatsPlugin)
		says     string
	}{
		"nothing": {func(*NatsPlugin) {}, "no entries"},
		"initialize": {func(p *NatsPlugin) {
			p.Initialize(func(map[string]any) { panic(broken) })
			p.AddPhaseHandler("e", pass)
		}, "no database"},
		"setup":    {func(p *NatsPlugin) { p.AddPhaseHandler("e", func(*PhaseHandler) { panic(broken) }) }, "no database"},
		"shutdown": {func(p *NatsPlugin) { p.Shutdown(func() { panic(broken) }); p.AddPhaseHandler("e", pass) }, "no database"},
		"good":     {func(p *NatsPlugin) { p.AddPhaseHandler("e", pass) }, ""},
	} {
		plugin, err := NewNatsPlugin(b.URL(), "g", quiet)
		if err != nil {
			t.Fatal(err)
		}
		c.register(plugin)
		ctx, cancel := context.WithCancel(context.Background())
		if c.says == "" || name == "shutdown" {
			cancel()
		}
		err = plugin.Run(ctx)
		cancel()
		plugin.Close()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInitializeGetsTheConfig(t *testing.T) {
	withoutEnvironment(t)
	plugin, err := NewNatsPlugin(brokertest.Start(t).URL(), "g", WithConfig(map[string]any{"key": "k"}))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	plugin.Initialize(NewInitializer(func(config struct{ Key string }) { got = config.Key }))
	plugin.AddPhaseHandler("e", pass)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := plugin.Run(ctx); err != nil || got != "k" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMain is a worker's main where the variable says so: signals are for whole processes.
func TestMain(m *testing.M) {
	if os.Getenv("NYLON_TEST_WORKER") == "" {
		os.Exit(m.Run())
	}
	plugin, err := NewNatsPlugin("", "")
	if err != nil {
		panic(err)
	}
	switch os.Getenv("NYLON_TEST_WORKER") {
	case "broken":
		plugin.AddPhaseHandler("e", func(*PhaseHandler) { panic("the setup is broken") })
		select {}
	default:
		plugin.AddPhaseHandler("e", pass)
	}
	if err := plugin.Wait(); err != nil {
		panic(err)
	}
}

func startWorker(t *testing.T, kind string) (*exec.Cmd, *log) {
	withoutEnvironment(t)
	process, written := exec.Command(os.Args[0]), &log{}
	process.Env = append(os.Environ(),
		"NYLON_TEST_WORKER="+kind, "NATS_SERVERS="+brokertest.Start(t).URL(), "NATS_GROUP=g")
	process.Stderr = written
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Process.Kill() })
	return process, written
}

func TestASignalEndsAWorkerInGoodOrder(t *testing.T) {
	for _, number := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		process, written := startWorker(t, "good")
		written.await(t, "serving")
		if err := process.Process.Signal(number); err != nil {
			t.Fatal(err)
		}
		if err := process.Wait(); err != nil {
			t.Errorf("%v: %v\n%s", number, err, written.text.String())
		}
	}
}

func TestAWorkerThatCannotServeDoesNotLookAsIfItDid(t *testing.T) {
	process, written := startWorker(t, "broken")
	if err := process.Wait(); err == nil || !strings.Contains(written.text.String(), "the setup is broken") {
		t.Errorf("%v\n%s", err, written.text.String())
	}
}
