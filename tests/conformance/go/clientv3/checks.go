package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

type check struct {
	name string
	run  func(ctx context.Context, c *clientv3.Client) error
}

func (k check) holds(c *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return k.run(ctx, c)
}

var checks = []check{
	{"put, get and delete tell revisions and versions", readsAndWrites},
	{"options of Get reach the server", getOptions},
	{"a stream joins to what Get answers", getStream},
	{"pages at one revision stay whole while others write", pages},
	{"errors are the values of rpctypes", errorValues},
	{"txns branch, nest and read", txns},
	{"software transactional memory loses no increment", stm},
	{"a put acknowledged to one client is read by another", readAfterWrite},
	{"values of a mebibyte go both ways", largeValues},
	{"a thousand calls at once on one connection", manyCalls},
	{"gzip in both directions", compressed},
	{"a deadline ends a call", deadline},
	{"maintenance and cluster calls", maintenance},
	{"compaction", compaction},
	{"gRPC health", health},
}

func readsAndWrites(ctx context.Context, c *clientv3.Client) error {
	put, err := c.Put(ctx, "rw", "1")
	if err != nil {
		return err
	}
	again, err := c.Put(ctx, "rw", "2", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	if string(again.PrevKv.Value) != "1" || again.Header.Revision != put.Header.Revision+1 {
		return fmt.Errorf("second put: %v", again)
	}
	got, err := c.Get(ctx, "rw")
	if err != nil {
		return err
	}
	kv := got.Kvs[0]
	if kv.CreateRevision != put.Header.Revision || kv.ModRevision != again.Header.Revision || kv.Version != 2 {
		return fmt.Errorf("key value: %v", kv)
	}
	deleted, err := c.Delete(ctx, "rw", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	if deleted.Deleted != 1 || !bytes.Equal(deleted.PrevKvs[0].Value, []byte("2")) {
		return fmt.Errorf("delete: %v", deleted)
	}
	return nil
}

func getOptions(ctx context.Context, c *clientv3.Client) error {
	for i := range 5 {
		if _, err := c.Put(ctx, fmt.Sprintf("o/%d", i), fmt.Sprint(9-i)); err != nil {
			return err
		}
	}
	expected := []struct {
		what string
		opts []clientv3.OpOption
		keys string
	}{
		{"prefix", []clientv3.OpOption{clientv3.WithPrefix()}, "o/0 o/1 o/2 o/3 o/4"},
		{"limit", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(2)}, "o/0 o/1"},
		{"by value", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, "o/4 o/3 o/2 o/1 o/0"},
		{"last revision", clientv3.WithLastRev(), "o/4"},
		{"first create", clientv3.WithFirstCreate(), "o/0"},
		{"range", []clientv3.OpOption{clientv3.WithRange("o/2")}, "o/0 o/1"},
		{"serializable", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSerializable(), clientv3.WithKeysOnly()}, "o/0 o/1 o/2 o/3 o/4"},
		{"count only", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCountOnly()}, ""},
	}
	for _, e := range expected {
		got, err := c.Get(ctx, "o/", e.opts...)
		if err != nil {
			return fmt.Errorf("%s: %w", e.what, err)
		}
		var keys []string
		for _, kv := range got.Kvs {
			keys = append(keys, string(kv.Key))
		}
		if strings.Join(keys, " ") != e.keys {
			return fmt.Errorf("%s: %v", e.what, keys)
		}
		if e.what != "range" && got.Count != 5 {
			return fmt.Errorf("%s: count %d", e.what, got.Count)
		}
	}
	return nil
}

func getStream(ctx context.Context, c *clientv3.Client) error {
	for i := range 100 {
		if _, err := c.Put(ctx, fmt.Sprintf("st/%03d", i), strings.Repeat("s", 500)); err != nil {
			return err
		}
	}
	stream, err := c.GetStream(ctx, "st/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	joined, err := clientv3.GetStreamToGetResponse(stream)
	if err != nil {
		return err
	}
	whole, err := c.Get(ctx, "st/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	if len(joined.Kvs) != 100 || joined.Count != whole.Count || !bytes.Equal(joined.Kvs[99].Key, whole.Kvs[99].Key) {
		return fmt.Errorf("%d keys, count %d", len(joined.Kvs), joined.Count)
	}
	return nil
}

func pages(ctx context.Context, c *clientv3.Client) error {
	for i := range 40 {
		if _, err := c.Put(ctx, fmt.Sprintf("pg/%02d", i), "old"); err != nil {
			return err
		}
	}
	from, revision, seen := "pg/", int64(0), 0
	for {
		opts := []clientv3.OpOption{clientv3.WithRange("pg0"), clientv3.WithLimit(7), clientv3.WithRev(revision)}
		page, err := c.Get(ctx, from, opts...)
		if err != nil {
			return err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			if string(kv.Value) != "old" {
				return fmt.Errorf("%s is of a later revision", kv.Key)
			}
		}
		seen += len(page.Kvs)
		if !page.More {
			break
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		if _, err := c.Put(ctx, fmt.Sprintf("pg/%02d", seen+3), "new"); err != nil {
			return err
		}
	}
	if seen != 40 {
		return fmt.Errorf("%d keys", seen)
	}
	return nil
}

func errorValues(ctx context.Context, c *clientv3.Client) error {
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpGet("x")
	}
	put := clientv3.OpPut("x", "")
	expected := []struct {
		want error
		call func() error
	}{
		{rpctypes.ErrEmptyKey, func() error { _, err := c.Put(ctx, "", "x"); return err }},
		{rpctypes.ErrFutureRev, func() error { _, err := c.Get(ctx, "x", clientv3.WithRev(1<<40)); return err }},
		{rpctypes.ErrLeaseNotFound, func() error { _, err := c.Put(ctx, "x", "", clientv3.WithLease(99)); return err }},
		{rpctypes.ErrKeyNotFound, func() error { _, err := c.Put(ctx, "none", "", clientv3.WithIgnoreValue()); return err }},
		{rpctypes.ErrTooManyOps, func() error { _, err := c.Txn(ctx).Then(many...).Commit(); return err }},
		{rpctypes.ErrDuplicateKey, func() error { _, err := c.Txn(ctx).Then(put, put).Commit(); return err }},
		{rpctypes.ErrRequestTooLarge, func() error { _, err := c.Put(ctx, "x", strings.Repeat("x", 1600000)); return err }},
	}
	for _, e := range expected {
		if got := e.call(); !errors.Is(got, e.want) {
			return fmt.Errorf("wanted %v, got %v", e.want, got)
		}
	}
	return nil
}

func txns(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.Put(ctx, "t/a", "1"); err != nil {
		return err
	}
	nested := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Version("t/a"), "=", 1)},
		[]clientv3.Op{clientv3.OpPut("t/b", "2"), clientv3.OpGet("t/b")},
		nil,
	)
	answer, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.Value("t/a"), "=", "1"), clientv3.Compare(clientv3.CreateRevision("t/none"), "=", 0)).
		Then(nested, clientv3.OpDelete("t/a")).
		Else(clientv3.OpGet("t/a")).
		Commit()
	if err != nil {
		return err
	}
	inner := answer.Responses[0].GetResponseTxn()
	if !answer.Succeeded || string(inner.Responses[1].GetResponseRange().Kvs[0].Value) != "2" {
		return fmt.Errorf("txn: %v", answer)
	}
	answer, err = c.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision("t/").WithPrefix(), "<", answer.Header.Revision)).
		Else(clientv3.OpGet("t/", clientv3.WithPrefix())).
		Commit()
	if err != nil {
		return err
	}
	if answer.Succeeded || answer.Responses[0].GetResponseRange().Count != 1 {
		return fmt.Errorf("else: %v", answer)
	}
	return nil
}

func stm(ctx context.Context, c *clientv3.Client) error {
	const workers, rounds = 8, 10
	var all sync.WaitGroup
	failures := make(chan error, workers)
	for range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			for range rounds {
				_, err := concurrency.NewSTM(c, func(s concurrency.STM) error {
					s.Put("stm", s.Get("stm")+"x")
					return nil
				}, concurrency.WithAbortContext(ctx))
				if err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	all.Wait()
	close(failures)
	if err, failed := <-failures; failed {
		return err
	}
	got, err := c.Get(ctx, "stm")
	if err != nil {
		return err
	}
	if len(got.Kvs[0].Value) != workers*rounds {
		return fmt.Errorf("%d of %d increments", len(got.Kvs[0].Value), workers*rounds)
	}
	return nil
}

func readAfterWrite(ctx context.Context, c *clientv3.Client) error {
	other, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), DialTimeout: patience})
	if err != nil {
		return err
	}
	defer other.Close()
	for i := range 200 {
		put, err := c.Put(ctx, "raw", fmt.Sprint(i))
		if err != nil {
			return err
		}
		got, err := other.Get(ctx, "raw")
		if err != nil {
			return err
		}
		if got.Kvs[0].ModRevision < put.Header.Revision || string(got.Kvs[0].Value) != fmt.Sprint(i) {
			return fmt.Errorf("round %d read %v", i, got.Kvs[0])
		}
	}
	return nil
}

func largeValues(ctx context.Context, c *clientv3.Client) error {
	value := strings.Repeat("0123456789abcdef", 1<<16)
	for i := range 12 {
		if _, err := c.Put(ctx, fmt.Sprintf("large/%02d", i), value); err != nil {
			return err
		}
	}
	got, err := c.Get(ctx, "large/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range got.Kvs {
		if string(kv.Value) != value {
			return fmt.Errorf("%s came back changed", kv.Key)
		}
	}
	if len(got.Kvs) != 12 {
		return fmt.Errorf("%d values", len(got.Kvs))
	}
	_, err = c.Delete(ctx, "large/", clientv3.WithPrefix())
	return err
}

func manyCalls(ctx context.Context, c *clientv3.Client) error {
	const calls = 1000
	answers := make(chan error, calls)
	for i := range calls {
		go func() {
			key := fmt.Sprintf("many/%04d", i)
			_, err := c.Put(ctx, key, key)
			answers <- err
		}()
	}
	for range calls {
		if err := <-answers; err != nil {
			return err
		}
	}
	got, err := c.Get(ctx, "many/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if got.Count != calls {
		return fmt.Errorf("%d of %d", got.Count, calls)
	}
	return nil
}

func compressed(ctx context.Context, c *clientv3.Client) error {
	zipped, err := clientv3.New(clientv3.Config{
		Endpoints:   c.Endpoints(),
		DialTimeout: patience,
		DialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name))},
	})
	if err != nil {
		return err
	}
	defer zipped.Close()
	if _, err := zipped.Put(ctx, "zipped", strings.Repeat("z", 10000)); err != nil {
		return err
	}
	got, err := zipped.Get(ctx, "zipped")
	if err != nil {
		return err
	}
	if len(got.Kvs[0].Value) != 10000 {
		return fmt.Errorf("%d bytes", len(got.Kvs[0].Value))
	}
	return nil
}

func deadline(_ context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	_, err := c.Get(ctx, "x")
	if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
		return fmt.Errorf("%v", err)
	}
	return nil
}

func maintenance(ctx context.Context, c *clientv3.Client) error {
	endpoint := c.Endpoints()[0]
	state, err := c.Status(ctx, endpoint)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(state.Version, "3.7.") || state.Leader != state.Header.MemberId || state.DbSize <= 0 {
		return fmt.Errorf("status: %v", state)
	}
	members, err := c.MemberList(ctx)
	if err != nil {
		return err
	}
	if len(members.Members) != 1 || members.Members[0].ID != state.Header.MemberId {
		return fmt.Errorf("members: %v", members)
	}
	if _, err := c.Defragment(ctx, endpoint); err != nil {
		return err
	}
	first, err := c.HashKV(ctx, endpoint, 0)
	if err != nil {
		return err
	}
	second, err := c.HashKV(ctx, endpoint, first.HashRevision)
	if err != nil {
		return err
	}
	if first.Hash != second.Hash {
		return fmt.Errorf("hashes %d and %d of one revision", first.Hash, second.Hash)
	}
	alarms, err := c.AlarmList(ctx)
	if err != nil {
		return err
	}
	if len(alarms.Alarms) != 0 {
		return fmt.Errorf("alarms: %v", alarms)
	}
	_, err = c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	return err
}

func compaction(ctx context.Context, c *clientv3.Client) error {
	first, err := c.Put(ctx, "cp", "1")
	if err != nil {
		return err
	}
	second, err := c.Put(ctx, "cp", "2")
	if err != nil {
		return err
	}
	if _, err := c.Compact(ctx, second.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	if _, err := c.Get(ctx, "cp", clientv3.WithRev(first.Header.Revision)); !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("below: %v", err)
	}
	if _, err := c.Compact(ctx, second.Header.Revision); !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("again: %v", err)
	}
	_, err = c.Get(ctx, "cp", clientv3.WithRev(second.Header.Revision))
	return err
}

func health(ctx context.Context, c *clientv3.Client) error {
	answer, err := grpc_health_v1.NewHealthClient(c.ActiveConnection()).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%v", answer)
	}
	return nil
}
