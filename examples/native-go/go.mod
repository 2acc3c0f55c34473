module example.com/webhooks

go 1.24

require github.com/AssetsArt/nylon/sdk/go v0.0.0

require github.com/google/flatbuffers v25.12.19+incompatible // indirect

replace github.com/AssetsArt/nylon/sdk/go => ../../sdk/go
