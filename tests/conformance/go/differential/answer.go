package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// An answer is all of a server's reply that a client can see and that must not differ.
type answer struct {
	Status   int               `json:"status,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`
	Messages []any             `json:"messages,omitempty"`
	Trailers map[string]string `json:"trailers,omitempty"`
	Body     string            `json:"body,omitempty"`
	Failure  string            `json:"failure,omitempty"`
	Exit     *int              `json:"exit,omitempty"`
	Stdout   string            `json:"stdout,omitempty"`
	Stderr   string            `json:"stderr,omitempty"`
}

func (a answer) text() string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(a); err != nil {
		panic(err)
	}
	return strings.TrimSpace(out.String())
}

// decode turns one gRPC message into comparable JSON, with the sizes of the store reduced to whether they are there.
func decode(method protoreflect.MethodDescriptor, raw []byte) any {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return fmt.Sprintf("no type %s", method.Output().FullName())
	}
	message := kind.New().Interface()
	if err := proto.Unmarshal(raw, message); err != nil {
		return fmt.Sprintf("undecodable %x", raw)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return fmt.Sprintf("unencodable: %v", err)
	}
	canonical := bytes.Equal(again, raw)
	if method.FullName() == "etcdserverpb.Maintenance.Status" {
		maskSizes(message.ProtoReflect(), "dbSize", "dbSizeInUse")
		maskLag(message.ProtoReflect())
	}
	if method.FullName() == "etcdserverpb.Lease.LeaseTimeToLive" {
		maskLeft(message.ProtoReflect())
	}
	encoded, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return fmt.Sprintf("unprintable: %v", err)
	}
	var tree map[string]any
	if err := json.Unmarshal(encoded, &tree); err != nil {
		return fmt.Sprintf("unreadable: %v", err)
	}
	if !canonical {
		tree["encoding"] = "not as Go writes it"
	}
	return tree
}

func maskSizes(message protoreflect.Message, names ...protoreflect.Name) {
	for _, name := range names {
		field := message.Descriptor().Fields().ByName(name)
		if message.Get(field).Int() > 0 {
			message.Set(field, protoreflect.ValueOfInt64(1))
		}
	}
}

// maskLag forgives an applied index that is one behind: a request is answered a moment before its entry counts as applied.
func maskLag(status protoreflect.Message) {
	fields := status.Descriptor().Fields()
	index, applied := fields.ByName("raftIndex"), fields.ByName("raftAppliedIndex")
	if status.Get(index).Uint() == status.Get(applied).Uint()+1 {
		status.Set(applied, status.Get(index))
	}
}

// maskLeft forgives the seconds that pass between a grant and the question, and sorts the keys, which etcd leaves to chance.
func maskLeft(lease protoreflect.Message) {
	fields := lease.Descriptor().Fields()
	left, granted := fields.ByName("TTL"), fields.ByName("grantedTTL")
	if passed := lease.Get(granted).Int() - lease.Get(left).Int(); 1 <= passed && passed <= 5 {
		lease.Set(left, protoreflect.ValueOfInt64(lease.Get(granted).Int()-1))
	}
	keys := lease.Get(fields.ByName("keys")).List()
	if !keys.IsValid() {
		return
	}
	sorted := make([][]byte, keys.Len())
	for i := range sorted {
		sorted[i] = keys.Get(i).Bytes()
	}
	sort.Slice(sorted, func(i, j int) bool { return bytes.Compare(sorted[i], sorted[j]) < 0 })
	for i, key := range sorted {
		keys.Set(i, protoreflect.ValueOfBytes(key))
	}
}

// The tails of these messages come from a library's decoder and carry no promise.
var freeTails = []string{
	"grpc: error unmarshalling request: ",
	"malformed grpc-timeout: ",
	"malformed binary metadata ",
}

func shorten(message string) string {
	for _, prefix := range freeTails {
		if strings.HasPrefix(message, prefix) {
			return prefix + "..."
		}
	}
	return message
}

var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`took (= )?[0-9.]+(m|µ|n)?s`), "took T"},
	{regexp.MustCompile(`"took":"[0-9.]+(m|µ|n)?s"`), `"took":"T"`},
	{regexp.MustCompile(`"(dbSize|dbSizeInUse)":[1-9]\d*`), `"$1":SIZE`},
	{regexp.MustCompile(`"(DBSize|DBSizeInUse)" ?: [1-9]\d*`), `"$1" : SIZE`},
	{regexp.MustCompile(`"raftAppliedIndex":\d+`), `"raftAppliedIndex":INDEX`},
	{regexp.MustCompile(`"RaftAppliedIndex" : \d+`), `"RaftAppliedIndex" : INDEX`},
	{regexp.MustCompile(`(?m)^\{"level".*\n?`), ""},
	{regexp.MustCompile(`lease [0-9a-f]{16} granted`), "lease ID granted"},
	{regexp.MustCompile(`remaining\([0-9]+s\)`), "remaining(T)"},
	{regexp.MustCompile(`(attached keys\(\[)([^]]*)(\]\))`), "$1$3"},
}

// scrub replaces what legitimately differs in the printed answers of tools: addresses, times and sizes.
func scrub(text string, to target) string {
	text = strings.ReplaceAll(text, to.address, "ENDPOINT")
	for _, rule := range volatile {
		text = rule.pattern.ReplaceAllString(text, rule.with)
	}
	return text
}

// unordered sorts the lines of a list of checks, whose order etcd leaves to chance.
func unordered(body string) string {
	if !strings.Contains(body, "[+]") && !strings.Contains(body, "[-]") {
		return body
	}
	lines := strings.Split(body, "\n")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
