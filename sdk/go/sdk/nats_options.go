package sdk

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/AssetsArt/nylon/sdk/go/internal/worker"
)

// NatsOption is a setting of NewNatsPlugin.
type NatsOption func(*natsOptions)

// natsOptions are a worker's settings. Those that say who the worker is, and the files for TLS, default to the environment variables
// that the nats command line uses too.
type natsOptions struct {
	concurrency  int
	prefix       string
	drainTimeout time.Duration
	logger       *slog.Logger
	config       map[string]any

	user, password, token, credentials, nkey string
	ca, cert, key, serverName                string
	tls                                      bool
}

func defaults() natsOptions {
	return natsOptions{concurrency: 64, prefix: "nylon", drainTimeout: 30 * time.Second}
}

// WithConcurrency bounds the calls that run at once: 64 without it. Further ones go to another worker.
func WithConcurrency(calls int) NatsOption { return func(o *natsOptions) { o.concurrency = calls } }

// WithSubjectPrefix is the first part of every subject, subject_prefix of the gateway's messaging: nylon without it.
func WithSubjectPrefix(prefix string) NatsOption { return func(o *natsOptions) { o.prefix = prefix } }

// WithDrainTimeout is what handlers and sessions get to finish when the worker stops: 30 seconds without it.
func WithDrainTimeout(timeout time.Duration) NatsOption {
	return func(o *natsOptions) { o.drainTimeout = timeout }
}

// WithLogger is where the worker logs: slog.Default without it.
func WithLogger(logger *slog.Logger) NatsOption { return func(o *natsOptions) { o.logger = logger } }

// WithConfig is what the functions of Initialize get.
func WithConfig(config map[string]any) NatsOption { return func(o *natsOptions) { o.config = config } }

// WithUser says who the worker is to the broker. Default: NATS_USER and NATS_PASSWORD.
func WithUser(user, password string) NatsOption {
	return func(o *natsOptions) { o.user, o.password = user, password }
}

// WithToken says who the worker is to the broker. Default: NATS_TOKEN.
func WithToken(token string) NatsOption { return func(o *natsOptions) { o.token = token } }

// WithCredentials is a .creds file, with a JWT and an nkey seed. Default: NATS_CREDS.
func WithCredentials(file string) NatsOption { return func(o *natsOptions) { o.credentials = file } }

// WithNkeySeed is a file with an nkey seed. Default: NATS_NKEY.
func WithNkeySeed(file string) NatsOption { return func(o *natsOptions) { o.nkey = file } }

// TLSFiles are PEM files, and the name in the broker's certificate where it is not the one in the URL. What is left empty is taken
// from NATS_CA, NATS_CERT, NATS_KEY, NATS_TLS_HOSTNAME.
type TLSFiles struct{ CA, Cert, Key, ServerName string }

// WithTLS insists on TLS, as a server that starts with tls:// and each of the files do: a broker that speaks none is refused.
func WithTLS(files TLSFiles) NatsOption {
	return func(o *natsOptions) {
		o.tls = true
		o.ca, o.cert, o.key, o.serverName = files.CA, files.Cert, files.Key, files.ServerName
	}
}

// settings checks what was given, completes it from the environment, and makes a worker's settings of it.
func (o *natsOptions) settings(servers, group string) (worker.Settings, error) {
	settings := worker.Settings{
		Servers: splitServers(first(servers, os.Getenv("NATS_SERVERS"), nats.DefaultURL)),
		Group:   first(group, os.Getenv("NATS_GROUP")),
		Prefix:  o.prefix, Concurrency: o.concurrency, DrainTimeout: o.drainTimeout, Logger: o.logger, Software: Version,
	}
	switch {
	case len(settings.Servers) == 0:
		return settings, fmt.Errorf("servers is %q: it is URLs, separated by commas", servers)
	case settings.Group == "":
		return settings, errors.New("a worker needs a group: give one or set NATS_GROUP")
	case o.concurrency < 1:
		return settings, fmt.Errorf("the concurrency is %d: it is a number of calls, at least 1", o.concurrency)
	case o.drainTimeout < 0:
		return settings, fmt.Errorf("the drain timeout is %v: it is at least 0", o.drainTimeout)
	}
	for _, server := range settings.Servers {
		// Not with the error's own words, which would show a password.
		if parsed, err := url.Parse(withScheme(server)); err != nil || parsed.Host == "" {
			return settings, fmt.Errorf("the server %q is not a URL such as nats://localhost:4222", worker.WithoutUser(server))
		}
	}
	who, err := o.who(settings.Servers)
	if err != nil {
		return settings, err
	}
	secure, err := o.secure()
	settings.Connect = append(who, secure...)
	return settings, err
}

// who says who the worker is to the broker. What is given wins over the environment as a whole: one way leaves no room for another.
func (o *natsOptions) who(servers []string) ([]nats.Option, error) {
	given := *o
	inURL := false
	for _, server := range servers {
		inURL = inURL || worker.WithoutUser(server) != server
	}
	if !inURL && given.user == "" && given.password == "" && given.token == "" && given.credentials == "" && given.nkey == "" {
		given.user, given.password = os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")
		given.token, given.credentials, given.nkey = os.Getenv("NATS_TOKEN"), os.Getenv("NATS_CREDS"), os.Getenv("NATS_NKEY")
	}
	var ways []string
	var options []nats.Option
	if inURL {
		ways = append(ways, "a user in the servers' URLs")
	}
	if given.user != "" || given.password != "" {
		given.user, given.password = first(given.user, os.Getenv("NATS_USER")), first(given.password, os.Getenv("NATS_PASSWORD"))
		if given.user == "" || given.password == "" {
			return nil, errors.New("user and password (NATS_USER, NATS_PASSWORD) belong together")
		}
		ways, options = append(ways, "a user (NATS_USER)"), append(options, nats.UserInfo(given.user, given.password))
	}
	if given.token != "" {
		ways, options = append(ways, "a token (NATS_TOKEN)"), append(options, nats.Token(given.token))
	}
	if given.credentials != "" {
		// nats.go reads the file again at each connect.
		ways, options = append(ways, "credentials (NATS_CREDS)"), append(options, nats.UserCredentials(given.credentials))
		if _, err := os.Stat(given.credentials); err != nil {
			return nil, fmt.Errorf("the credentials: %w", err)
		}
	}
	if given.nkey != "" {
		option, err := nats.NkeyOptionFromSeed(given.nkey)
		if err != nil {
			return nil, fmt.Errorf("the nkey seed %s: %w", given.nkey, err)
		}
		ways, options = append(ways, "an nkey seed (NATS_NKEY)"), append(options, option)
	}
	if len(ways) > 1 {
		return nil, fmt.Errorf("more than one way to say who the worker is: %s", strings.Join(ways, ", "))
	}
	return options, nil
}

// secure are the settings for TLS, where anything asks for it.
func (o *natsOptions) secure() ([]nats.Option, error) {
	ca, name := first(o.ca, os.Getenv("NATS_CA")), first(o.serverName, os.Getenv("NATS_TLS_HOSTNAME"))
	cert, key := first(o.cert, os.Getenv("NATS_CERT")), first(o.key, os.Getenv("NATS_KEY"))
	if (cert == "") != (key == "") {
		return nil, errors.New("a certificate and its key (NATS_CERT, NATS_KEY) belong together")
	}
	if !o.tls && ca == "" && cert == "" && name == "" {
		return nil, nil // tls:// in a URL is enough for nats.go
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("the broker's authority: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", ca)
		}
	}
	if cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("the worker's certificate: %w", err)
		}
		// Read again at each connect, so that a renewed one counts without a restart.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return []nats.Option{nats.Secure(config)}, nil
}

// withScheme is a server's URL as nats.go completes it.
func withScheme(server string) string {
	if strings.Contains(server, "://") {
		return server
	}
	return "nats://" + server
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

func splitServers(text string) (servers []string) {
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			servers = append(servers, part)
		}
	}
	return servers
}
