// Command differential sends one script to two servers and prints where their answers differ, one JSON object a line.
//
// Both servers must be fresh and started with the same advertised peer and client URLs, so that ids are equal and compared too.
// It exits with 0 when nothing differs, 1 when something does, 2 when it cannot tell.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func main() {
	first := flag.String("a", "", "host:port of the first server (the reference)")
	second := flag.String("b", "", "host:port of the second server")
	script := flag.String("script", "", "the script")
	etcdctl := flag.String("etcdctl", "etcdctl", "the stock client")
	seed := flag.Uint64("seed", 0, "instead of a script: the seed of random requests")
	rolls := flag.Int("rolls", 0, "how many of them")
	verbose := flag.Bool("v", false, "print every answer of the first server to standard error")
	flag.Parse()
	defer func() {
		if slip := recover(); slip != nil {
			fmt.Fprintln(os.Stderr, "differential:", slip)
			os.Exit(2)
		}
	}()
	a, b := newTarget(*first, *etcdctl), newTarget(*second, *etcdctl)
	a.awaitStorageVersion()
	b.awaitStorageVersion()
	if *rolls > 0 {
		os.Exit(random(a, b, *seed, *rolls))
	}
	os.Exit(run(a, b, *script, *verbose))
}

// awaitStorageVersion waits until a fresh server has raised its storage to its own version, which etcd does some time after it
// says that it is ready.
func (t target) awaitStorageVersion() {
	for until := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		status := t.send("Maintenance/Status", &pb.StatusRequest{})
		if len(status.Messages) == 1 {
			fields, _ := status.Messages[0].(map[string]any)
			storage, _ := fields["storageVersion"].(string)
			version, _ := fields["version"].(string)
			minor, isWhole := strings.CutSuffix(storage, ".0")
			if isWhole && strings.HasPrefix(version, minor+".") {
				return
			}
		}
		if time.Now().After(until) {
			panic(fmt.Sprintf("%s does not raise its storage version: %s", t.address, status.text()))
		}
	}
}

func run(a, b target, script string, verbose bool) int {
	steps, err := readScript(script)
	if err != nil {
		panic(err)
	}
	if len(steps) == 0 {
		panic("an empty script proves nothing")
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	differences := 0
	for _, s := range steps {
		began := time.Now()
		left, right := a.ask(s), b.ask(s)
		if verbose {
			fmt.Fprintf(os.Stderr, "%s %v\n    %s\n", s.name, time.Since(began).Round(time.Millisecond), left.text())
		}
		if left.text() == right.text() {
			continue
		}
		differences++
		_ = encoder.Encode(map[string]any{"step": s.name, "line": s.line, "clauses": s.clauses, "a": left, "b": right})
	}
	_ = encoder.Encode(map[string]any{"steps": len(steps), "differences": differences})
	if differences > 0 {
		return 1
	}
	return 0
}

func random(a, b target, seed uint64, rolls int) int {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	differences := roll(a, b, seed, rolls, func(difference map[string]any) { _ = encoder.Encode(difference) })
	_ = encoder.Encode(map[string]any{"rolls": rolls, "differences": differences})
	if differences > 0 {
		return 1
	}
	return 0
}
