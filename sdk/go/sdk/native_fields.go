package sdk

import (
	"sync"

	flatbuffers "github.com/google/flatbuffers/go"
)

// The ABI's headers are FlatBuffers: HeaderKeyValue has a key and a value, NylonHttpHeaders a list of them. The tables are
// small enough to be read and written without generated code.
const (
	keySlot, valueSlot     = 0, 1
	keyOffset, valueOffset = 4, 6
	headersOffset          = 4
)

var builders = sync.Pool{New: func() any { return flatbuffers.NewBuilder(256) }}

// encodeField makes a HeaderKeyValue.
func encodeField(name string, value []byte) []byte {
	builder := builders.Get().(*flatbuffers.Builder)
	defer builders.Put(builder)
	builder.Reset()
	key, text := builder.CreateString(name), builder.CreateByteString(value)
	builder.StartObject(2)
	builder.PrependUOffsetTSlot(keySlot, key, 0)
	builder.PrependUOffsetTSlot(valueSlot, text, 0)
	builder.Finish(builder.EndObject())
	return append([]byte(nil), builder.FinishedBytes()...)
}

// decodeFields reads NylonHttpHeaders.
func decodeFields(message []byte) []field {
	if len(message) == 0 {
		return nil
	}
	root := flatbuffers.Table{Bytes: message, Pos: flatbuffers.GetUOffsetT(message)}
	list := flatbuffers.UOffsetT(root.Offset(headersOffset))
	if list == 0 {
		return nil
	}
	fields := make([]field, root.VectorLen(list))
	start := root.Vector(list)
	for i := range fields {
		at := root.Indirect(start + flatbuffers.UOffsetT(i)*flatbuffers.SizeUOffsetT)
		entry := flatbuffers.Table{Bytes: message, Pos: at}
		fields[i] = field{text(entry, keyOffset), text(entry, valueOffset)}
	}
	return fields
}

func text(table flatbuffers.Table, slot flatbuffers.VOffsetT) string {
	offset := flatbuffers.UOffsetT(table.Offset(slot))
	if offset == 0 {
		return ""
	}
	return string(table.ByteVector(table.Pos + offset))
}
