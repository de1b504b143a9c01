// Command clientv3 uses a server through Go's own client and says what does not hold, one line a check.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// patience bounds one check; none needs a hundredth of it.
const patience = 60 * time.Second

func main() {
	endpoint := flag.String("endpoint", "", "host:port of a fresh server")
	flag.Parse()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{*endpoint},
		DialTimeout: patience,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "clientv3:", err)
		os.Exit(2)
	}
	defer client.Close()
	failed := 0
	for _, check := range slices.Concat(checks, watchChecks, leaseChecks) {
		if err := check.holds(client); err != nil {
			failed++
			fmt.Printf("FAILED %s: %v\n", check.name, err)
			continue
		}
		fmt.Printf("held   %s\n", check.name)
	}
	if failed > 0 {
		os.Exit(1)
	}
}
