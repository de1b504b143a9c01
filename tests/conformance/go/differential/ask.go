package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "go.etcd.io/etcd/api/v3/etcdserverpb"
	_ "google.golang.org/grpc/health/grpc_health_v1"
)

// No answer of the script takes longer; a server that hangs is reported as a failure of its step.
const patience = 20 * time.Second

// Nor is any answer larger.
const answerMax = 64 << 20

// A target is one of the two servers, with its own HTTP/2 connection and the tool that speaks to it.
type target struct {
	address string
	etcdctl string
	h2      *http2.Transport
}

func newTarget(address, etcdctl string) target {
	return target{address, etcdctl, &http2.Transport{
		AllowHTTP:          true,
		DisableCompression: true,
		DialTLSContext: func(ctx context.Context, network, to string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
	}}
}

func (t target) ask(s step) answer {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args := expand(s.args)
	var out answer
	var err error
	switch s.verb {
	case "grpc":
		out, err = t.grpc(args)
	case "fill":
		out, err = t.fill(args)
	case "raw":
		out, err = t.raw(ctx, args)
	case "ctl":
		out, err = t.ctl(ctx, args)
	case "http":
		out, err = t.http(args)
	default:
		err = fmt.Errorf("no verb %q", s.verb)
	}
	if err != nil {
		panic(fmt.Sprintf("line %d, %s: %v", s.line, s.name, err))
	}
	return out
}

// grpc sends `Service/Method text-format-message`.
func (t target) grpc(args string) (answer, error) {
	path, text, _ := strings.Cut(args, " ")
	method, err := describe(path)
	if err != nil {
		return answer{}, err
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return answer{}, err
	}
	request := kind.New().Interface()
	if err := prototext.Unmarshal([]byte(text), request); err != nil {
		return answer{}, err
	}
	return t.send(path, request), nil
}

// fill sends `N Service/Method text` N times, with the number in the place of each %d, and keeps the last answer.
func (t target) fill(args string) (answer, error) {
	times, rest, _ := strings.Cut(args, " ")
	var last answer
	for i := range count(times) {
		var err error
		if last, err = t.grpc(strings.ReplaceAll(rest, "%d", fmt.Sprintf("%04d", i))); err != nil {
			return last, err
		}
	}
	return last, nil
}

// raw sends `/path bytes... header:value...`. Bytes are `frame:HEX` (with gRPC's prefix), `gzip:HEX`, `hex:HEX` (as they are),
// `zeros:N` or `gzipzeros:N` (a frame of N zero bytes); `verb:GET` changes the method; a header `x:-` is taken out.
func (t target) raw(ctx context.Context, args string) (answer, error) {
	parts, err := words(args)
	if err != nil || len(parts) == 0 {
		return answer{}, fmt.Errorf("raw: %q %w", args, err)
	}
	path := parts[0]
	var body []byte
	headers := map[string]string{}
	for _, part := range parts[1:] {
		name, value, ok := strings.Cut(part, ":")
		if !ok {
			return answer{}, fmt.Errorf("raw: %q", part)
		}
		switch name {
		case "frame", "gzip", "hex":
			decoded, err := hex.DecodeString(value)
			if err != nil {
				return answer{}, err
			}
			switch name {
			case "frame":
				decoded = frame(decoded, 0)
			case "gzip":
				decoded = frame(deflate(decoded), 1)
			}
			body = append(body, decoded...)
		case "zeros":
			body = append(body, frame(make([]byte, count(value)), 0)...)
		case "gzipzeros":
			body = append(body, frame(deflate(make([]byte, count(value))), 1)...)
		default:
			headers[name] = value
		}
	}
	// A path that names nothing is what some steps are about: their messages are then compared as bytes.
	method, _ := describe(strings.TrimPrefix(path, "/"))
	return t.post(ctx, path, method, body, headers), nil
}

func describe(path string) (protoreflect.MethodDescriptor, error) {
	service, method, _ := strings.Cut(path, "/")
	if !strings.Contains(service, ".") {
		service = "etcdserverpb." + service
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return nil, err
	}
	descriptor, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a method", path)
	}
	return descriptor, nil
}

func frame(message []byte, compressed byte) []byte {
	head := []byte{compressed, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[1:], uint32(len(message)))
	return append(head, message...)
}

func deflate(message []byte) []byte {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	_, _ = writer.Write(message)
	_ = writer.Close()
	return out.Bytes()
}

func (t target) post(
	ctx context.Context, path string, method protoreflect.MethodDescriptor, body []byte, headers map[string]string,
) answer {
	verb := "POST"
	if other, ok := headers["verb"]; ok {
		verb = other
	}
	request, err := http.NewRequestWithContext(ctx, verb, "http://"+t.address+path, bytes.NewReader(body))
	if err != nil {
		return answer{Failure: err.Error()}
	}
	request.Header.Set("content-type", "application/grpc")
	request.Header.Set("te", "trailers")
	for name, value := range headers {
		if name != "verb" {
			request.Header.Del(name)
			if value != "-" {
				request.Header.Set(name, value)
			}
		}
	}
	response, err := t.h2.RoundTrip(request)
	if err != nil {
		return answer{Failure: failure(err)}
	}
	defer response.Body.Close()
	payload, err := io.ReadAll(io.LimitReader(response.Body, answerMax))
	if len(payload) == answerMax {
		return answer{Failure: "an answer without end"}
	}
	out := answer{Status: response.StatusCode, Headers: pick(response.Header), Trailers: pick(response.Trailer)}
	if err != nil {
		out.Failure = failure(err)
	}
	out.Messages = messages(method, payload)
	return out
}

// failure names a reset or a closed connection without the words of the local library around it.
func failure(err error) string {
	var stream http2.StreamError
	if errors.As(err, &stream) {
		return "reset " + stream.Code.String()
	}
	var away http2.GoAwayError
	if errors.As(err, &away) {
		return "goaway " + away.ErrCode.String()
	}
	return err.Error()
}

func pick(headers http.Header) map[string]string {
	out := map[string]string{}
	for name, values := range headers {
		switch name = strings.ToLower(name); name {
		case "date":
		case "grpc-message":
			// Go sends an empty one with status 0; no client can tell it from none.
			if values[0] != "" {
				out[name] = shorten(values[0])
			}
		default:
			out[name] = strings.Join(values, ", ")
		}
	}
	return out
}

func messages(method protoreflect.MethodDescriptor, payload []byte) []any {
	var out []any
	for len(payload) >= 5 {
		size := int(binary.BigEndian.Uint32(payload[1:5]))
		if len(payload) < 5+size {
			break
		}
		message := payload[5 : 5+size]
		if payload[0] == 1 {
			reader, err := gzip.NewReader(bytes.NewReader(message))
			if err != nil {
				return append(out, "not gzip")
			}
			message, _ = io.ReadAll(reader)
			out = append(out, "gzip:")
		}
		if method == nil {
			out = append(out, hex.EncodeToString(message))
		} else {
			out = append(out, decode(method, message))
		}
		payload = payload[5+size:]
	}
	if len(payload) > 0 {
		out = append(out, "rest "+hex.EncodeToString(payload))
	}
	return out
}

// ctl runs etcdctl; a word `stdin:...` is fed to it.
func (t target) ctl(ctx context.Context, args string) (answer, error) {
	parts, err := words(args)
	if err != nil {
		return answer{}, err
	}
	command := exec.CommandContext(ctx, t.etcdctl, "--endpoints", t.address)
	for _, part := range parts {
		if text, ok := strings.CutPrefix(part, "stdin:"); ok {
			command.Stdin = strings.NewReader(text)
		} else {
			command.Args = append(command.Args, part)
		}
	}
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	exit := 0
	if err := command.Run(); err != nil {
		var status *exec.ExitError
		if !errors.As(err, &status) {
			return answer{}, err
		}
		exit = status.ExitCode()
	}
	return answer{Exit: &exit, Stdout: scrub(stdout.String(), t), Stderr: scrub(stderr.String(), t)}, nil
}

// http sends `METHOD /path Header:value... body:text` as HTTP/1.1 on a connection of its own.
func (t target) http(args string) (answer, error) {
	parts, err := words(args)
	if err != nil || len(parts) < 2 {
		return answer{}, fmt.Errorf("http: %q %w", args, err)
	}
	var body string
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", parts[0], parts[1], t.address)
	for _, part := range parts[2:] {
		name, value, _ := strings.Cut(part, ":")
		if name == "body" {
			body = value
			continue
		}
		head += name + ": " + value + "\r\n"
	}
	if body != "" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	connection, err := net.DialTimeout("tcp", t.address, patience)
	if err != nil {
		return answer{Failure: err.Error()}, nil
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(connection, head+"\r\n"+body); err != nil {
		return answer{Failure: err.Error()}, nil
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: parts[0]})
	if err != nil {
		return answer{Failure: err.Error()}, nil
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{Failure: err.Error()}, nil
	}
	headers := pick(response.Header)
	delete(headers, "connection")
	return answer{Status: response.StatusCode, Headers: headers, Body: unordered(scrub(string(content), t))}, nil
}
