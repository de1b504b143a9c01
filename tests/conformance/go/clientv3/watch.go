package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var watchChecks = []check{
	{"a watch tells of puts, deletes and whole txns", watchTells},
	{"a watch replays from a revision, in order and without gaps", watchReplays},
	{"a watch from the future is silent until then", watchFuture},
	{"a watch below the compacted revision is told where to begin", watchCompacted},
	{"filters of a watch leave events out", watchFilters},
	{"progress is answered when all is told", watchProgress},
	{"a large revision comes in fragments and joins to the whole", watchFragments},
	{"hundreds of watchers of one stream hear each event once", watchMany},
	{"a stream that is not read for a while misses nothing", watchSlow},
	{"ids, refusals and cancels of a raw stream", watchRaw},
}

// next reads events until there are n, and fails on anything else.
func next(ctx context.Context, events clientv3.WatchChan, n int) ([]*clientv3.Event, error) {
	var got []*clientv3.Event
	for len(got) < n {
		select {
		case response, ok := <-events:
			if !ok || response.Err() != nil {
				return got, fmt.Errorf("ended after %d of %d: %v", len(got), n, response.Err())
			}
			got = append(got, response.Events...)
		case <-ctx.Done():
			return got, fmt.Errorf("%d of %d events came", len(got), n)
		}
	}
	if len(got) > n {
		return got, fmt.Errorf("%d events instead of %d", len(got), n)
	}
	return got, nil
}

func shown(events []*clientv3.Event) string {
	var out []string
	for _, e := range events {
		line := fmt.Sprintf("%s %s=%s v%d", e.Type, e.Kv.Key, e.Kv.Value, e.Kv.Version)
		if e.PrevKv != nil {
			line += fmt.Sprintf(" was %s", e.PrevKv.Value)
		}
		out = append(out, line)
	}
	return strings.Join(out, ", ")
}

func watchTells(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.Watch(ctx, "wt/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	if created := <-events; !created.Created {
		return fmt.Errorf("%v instead of created", created)
	}
	for _, value := range []string{"1", "2"} {
		if _, err := c.Put(ctx, "wt/a", value); err != nil {
			return err
		}
	}
	if _, err := c.Put(ctx, "wt", "not meant"); err != nil {
		return err
	}
	if _, err := c.Delete(ctx, "wt/a"); err != nil {
		return err
	}
	got, err := next(ctx, events, 3)
	if err != nil {
		return err
	}
	if text := shown(got); text != "PUT wt/a=1 v1, PUT wt/a=2 v2 was 1, DELETE wt/a= v0 was 2" {
		return fmt.Errorf("%s", text)
	}
	txn, err := c.Txn(ctx).Then(clientv3.OpPut("wt/c", "3"), clientv3.OpPut("wt/b", "4"), clientv3.OpDelete("wt/x")).Commit()
	if err != nil {
		return err
	}
	whole := <-events
	if text := shown(whole.Events); text != "PUT wt/c=3 v1, PUT wt/b=4 v1" || whole.Header.Revision != txn.Header.Revision {
		return fmt.Errorf("%s at %d", text, whole.Header.Revision)
	}
	if _, err := c.Delete(ctx, "wt/", clientv3.WithPrefix()); err != nil {
		return err
	}
	if whole = <-events; shown(whole.Events) != "DELETE wt/b= v0 was 4, DELETE wt/c= v0 was 3" {
		return fmt.Errorf("%s", shown(whole.Events))
	}
	return nil
}

func watchReplays(ctx context.Context, c *clientv3.Client) error {
	const revisions = 2500
	first, err := c.Put(ctx, "wr/", "first")
	if err != nil {
		return err
	}
	for i := 0; i < revisions; i++ {
		if _, err := c.Txn(ctx).Then(clientv3.OpPut("wr/a", fmt.Sprint(i)), clientv3.OpPut("wr/b", fmt.Sprint(i))).Commit(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.Watch(ctx, "wr/", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision))
	got, err := next(ctx, events, 1+2*revisions)
	if err != nil {
		return err
	}
	for i, event := range got[1:] {
		revision := first.Header.Revision + 1 + int64(i/2)
		key := [2]string{"wr/a", "wr/b"}[i%2]
		if event.Kv.ModRevision != revision || string(event.Kv.Key) != key || string(event.Kv.Value) != fmt.Sprint(i/2) {
			return fmt.Errorf("event %d is %s at %d, not at %d", i, shown([]*clientv3.Event{event}), event.Kv.ModRevision, revision)
		}
	}
	return nil
}

func watchFuture(ctx context.Context, c *clientv3.Client) error {
	now, err := c.Put(ctx, "wf", "now")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.Watch(ctx, "wf", clientv3.WithRev(now.Header.Revision+3), clientv3.WithCreatedNotify())
	<-events
	for _, value := range []string{"1", "2", "3"} {
		if _, err := c.Put(ctx, "wf", value); err != nil {
			return err
		}
	}
	got, err := next(ctx, events, 1)
	if err == nil && string(got[0].Kv.Value) != "3" {
		err = fmt.Errorf("%s", shown(got))
	}
	return err
}

func watchCompacted(ctx context.Context, c *clientv3.Client) error {
	var last *clientv3.PutResponse
	for i := 0; i < 5; i++ {
		var err error
		if last, err = c.Put(ctx, "wc", fmt.Sprint(i)); err != nil {
			return err
		}
	}
	at := last.Header.Revision - 1
	if _, err := c.Compact(ctx, at, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	response := <-c.Watch(ctx, "wc", clientv3.WithRev(at-1))
	if !errors.Is(response.Err(), rpctypes.ErrCompacted) || response.CompactRevision != at {
		return fmt.Errorf("%v, compacted at %d", response.Err(), response.CompactRevision)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got, err := next(ctx, c.Watch(ctx, "wc", clientv3.WithRev(at)), 2)
	if err == nil && shown(got) != "PUT wc=3 v4, PUT wc=4 v5" {
		err = fmt.Errorf("%s", shown(got))
	}
	return err
}

func watchFilters(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	puts := c.Watch(ctx, "wx", clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
	deletes := c.Watch(ctx, "wx", clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	<-puts
	<-deletes
	for i := 0; i < 2; i++ {
		if _, err := c.Put(ctx, "wx", "1"); err != nil {
			return err
		}
		if _, err := c.Delete(ctx, "wx"); err != nil {
			return err
		}
	}
	got, err := next(ctx, puts, 2)
	if err != nil {
		return err
	}
	gone, err := next(ctx, deletes, 2)
	if err == nil && (shown(got) != "PUT wx=1 v1, PUT wx=1 v1" || shown(gone) != "DELETE wx= v0, DELETE wx= v0") {
		err = fmt.Errorf("%s and %s", shown(got), shown(gone))
	}
	return err
}

func watchProgress(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := c.Watch(ctx, "wp", clientv3.WithCreatedNotify())
	<-events
	put, err := c.Put(ctx, "elsewhere", "")
	if err != nil {
		return err
	}
	for {
		if err := c.RequestProgress(ctx); err != nil {
			return err
		}
		select {
		case response := <-events:
			if !response.IsProgressNotify() {
				return fmt.Errorf("%v instead of progress", response)
			}
			if response.Header.Revision >= put.Header.Revision {
				return nil
			}
		case <-time.After(200 * time.Millisecond):
			// etcd too leaves a request unanswered while a watcher is behind.
		case <-ctx.Done():
			return errors.New("no progress came")
		}
	}
}

func watchFragments(ctx context.Context, c *clientv3.Client) error {
	stream, err := rawStream(ctx, c)
	if err != nil {
		return err
	}
	defer stream.CloseSend()
	if _, err := stream.create(&pb.WatchCreateRequest{Key: []byte("wg/"), RangeEnd: []byte("wg0"), Fragment: true}); err != nil {
		return err
	}
	value := strings.Repeat("v", 200<<10)
	var first int64
	for _, name := range []string{"x", "y"} {
		var ops []clientv3.Op
		for i := 0; i < 7; i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("wg/%s%d", name, i), value))
		}
		put, err := c.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return err
		}
		if first == 0 {
			first = put.Header.Revision
		}
	}
	pieces := func(id int64) error {
		for got := 0; got < 14; {
			response, err := stream.Recv()
			if err != nil {
				return err
			}
			if size := proto.Size(response); size >= 1572864+524288 {
				return fmt.Errorf("a piece of %d bytes", size)
			}
			got += len(response.Events)
			if response.WatchId != id || response.Fragment && got == 14 {
				return fmt.Errorf("a piece for %d, more follows: %v", response.WatchId, response.Fragment)
			}
		}
		return nil
	}
	if err := pieces(0); err != nil {
		return err
	}
	// Both revisions together are larger than a piece may be.
	if _, err := stream.create(&pb.WatchCreateRequest{Key: []byte("wg/"), RangeEnd: []byte("wg0"), Fragment: true, StartRevision: first, WatchId: 9}); err != nil {
		return err
	}
	return pieces(9)
}

func watchMany(ctx context.Context, c *clientv3.Client) error {
	const watchers = 300
	stream, err := rawStream(ctx, c)
	if err != nil {
		return err
	}
	defer stream.CloseSend()
	for i := 0; i < watchers; i++ {
		request := &pb.WatchCreateRequest{Key: []byte("wm/"), RangeEnd: []byte("wm0")}
		if i%2 == 1 {
			request = &pb.WatchCreateRequest{Key: []byte("wm/1")}
		}
		if _, err := stream.create(request); err != nil {
			return err
		}
	}
	for i := 0; i < 2; i++ {
		if _, err := c.Put(ctx, fmt.Sprintf("wm/%d", i), strings.Repeat("v", 4000)); err != nil {
			return err
		}
	}
	got := map[string]int{}
	for n := 0; n < watchers+watchers/2; n++ {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, event := range response.Events {
			got[fmt.Sprintf("%d %s", response.WatchId, event.Kv.Key)]++
		}
	}
	for name, count := range got {
		if count != 1 {
			return fmt.Errorf("%s came %d times", name, count)
		}
	}
	if len(got) != watchers+watchers/2 {
		return fmt.Errorf("%d different events", len(got))
	}
	return nil
}

func watchSlow(ctx context.Context, c *clientv3.Client) error {
	const revisions = 600
	stream, err := rawStream(ctx, c)
	if err != nil {
		return err
	}
	defer stream.CloseSend()
	if _, err := stream.create(&pb.WatchCreateRequest{Key: []byte("ws")}); err != nil {
		return err
	}
	value := strings.Repeat("v", 16<<10)
	var last *clientv3.PutResponse
	for i := 0; i < revisions; i++ {
		if last, err = c.Put(ctx, "ws", value); err != nil {
			return err
		}
	}
	revision := last.Header.Revision - revisions
	for revision < last.Header.Revision {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, event := range response.Events {
			if revision++; event.Kv.ModRevision != revision {
				return fmt.Errorf("revision %d instead of %d", event.Kv.ModRevision, revision)
			}
		}
	}
	return nil
}

func watchRaw(ctx context.Context, c *clientv3.Client) error {
	stream, err := rawStream(ctx, c)
	if err != nil {
		return err
	}
	key := []byte("wi")
	for _, row := range []struct {
		request *pb.WatchCreateRequest
		id      int64
		reason  string
	}{
		{&pb.WatchCreateRequest{Key: key}, 0, ""},
		{&pb.WatchCreateRequest{Key: key, WatchId: 1}, 1, ""},
		{&pb.WatchCreateRequest{Key: key}, 2, ""},
		{&pb.WatchCreateRequest{Key: key, WatchId: 1}, -1, "mvcc: duplicate watch ID provided on the WatchStream"},
		{&pb.WatchCreateRequest{Key: key, RangeEnd: []byte("wi")}, -1, "mvcc: watcher range is empty"},
		{&pb.WatchCreateRequest{Key: key, RangeEnd: []byte("wa")}, -1, "mvcc: watcher range is empty"},
		{&pb.WatchCreateRequest{Key: key, StartRevision: -1}, -1, "etcdserver: mvcc: required revision has been compacted"},
		{&pb.WatchCreateRequest{RangeEnd: []byte{0}, Filters: []pb.WatchCreateRequest_FilterType{7, 0, 1}}, 3, ""},
		{&pb.WatchCreateRequest{Key: key, WatchId: -5}, -5, ""},
	} {
		response, err := stream.create(row.request)
		if err != nil {
			return err
		}
		if response.WatchId != row.id || response.CancelReason != row.reason || response.Canceled != (row.reason != "") {
			return fmt.Errorf("%v is answered %v", row.request, response)
		}
		if response.Header.Revision == 0 || response.Header.MemberId == 0 || response.Header.RaftTerm == 0 {
			return fmt.Errorf("header %v", response.Header)
		}
	}
	for _, id := range []int64{77, 1, 1, 0} {
		request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
		if err := stream.Send(request); err != nil {
			return err
		}
	}
	for _, id := range []int64{1, 0} {
		response, err := stream.Recv()
		if err != nil || !response.Canceled || response.Created || response.WatchId != id || response.CancelReason != "" {
			return fmt.Errorf("%v, %v instead of the cancel of %d", response, err, id)
		}
	}
	// The end of the requests is not the end of the watch.
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := c.Put(ctx, "wi", "after"); err != nil {
		return err
	}
	for _, id := range []int64{2, -5} {
		response, err := stream.Recv()
		if err != nil || len(response.Events) != 1 {
			return fmt.Errorf("%v, %v after the requests ended", response, err)
		}
		if response.WatchId != id && response.WatchId != -3-id {
			return fmt.Errorf("an event for %d", response.WatchId)
		}
	}
	return nil
}

type raw struct {
	pb.Watch_WatchClient
}

func rawStream(ctx context.Context, c *clientv3.Client) (raw, error) {
	// etcd puts what a slow reader has missed into one message, however large.
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(1<<30))
	return raw{stream}, err
}

// create asks for a watcher and gives the answer, which nothing may come before.
func (s raw) create(request *pb.WatchCreateRequest) (*pb.WatchResponse, error) {
	if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}); err != nil {
		return nil, err
	}
	response, err := s.Recv()
	if err == nil && !response.Created {
		err = fmt.Errorf("%v before created", response)
	}
	return response, err
}
