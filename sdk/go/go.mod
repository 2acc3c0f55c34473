module github.com/AssetsArt/nylon/sdk/go

go 1.24

require github.com/tinylib/msgp v1.6.5

require (
	github.com/klauspost/compress v1.18.0 // indirect
	github.com/nats-io/nkeys v0.4.11 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
	golang.org/x/crypto v0.37.0 // indirect
)

require (
	github.com/google/flatbuffers v25.12.19+incompatible
	github.com/nats-io/nats.go v1.48.0
	golang.org/x/sys v0.32.0
)
