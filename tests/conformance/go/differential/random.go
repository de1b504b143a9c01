package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A dice draws requests from a seed. Ten keys at most: with more than twelve results the order of equals is an accident of Go's sort.
type dice struct {
	*rand.Rand
	// The revision that the reference told last; requests aim at and around it.
	revision int64
	// Keys written by the txn that is being drawn, so that most txns pass the check for duplicates.
	written map[string]bool
}

func newDice(seed uint64) *dice {
	return &dice{Rand: rand.New(rand.NewPCG(seed, 0)), revision: 1}
}

// next draws a request and the method it goes to.
func (d *dice) next() (string, proto.Message) {
	switch n := d.IntN(100); {
	case n < 30:
		return "KV/Put", d.put()
	case n < 42:
		return "KV/DeleteRange", d.deleteRange(true)
	case n < 62:
		d.written = map[string]bool{}
		return "KV/Txn", d.txn(0)
	case n < 88:
		return "KV/Range", d.rangeRequest()
	case n < 92:
		request := d.rangeRequest()
		request.SortOrder, request.SortTarget = pb.RangeRequest_NONE, pb.RangeRequest_KEY
		return "KV/RangeStream", request
	case n < 94:
		return "KV/Compact", &pb.CompactionRequest{Revision: 1 + d.around(), Physical: true}
	case n < 98:
		return "Maintenance/HashKV", &pb.HashKVRequest{Revision: d.around()}
	default:
		return "Maintenance/Status", &pb.StatusRequest{}
	}
}

func (d *dice) key() []byte {
	return []byte{"abc"[d.IntN(3)], "xyz"[d.IntN(3)]}
}

// ends draws a range: a key, an interval, a prefix, from a key on, everything, or one that ends before it begins.
func (d *dice) ends(isOpenAllowed bool) ([]byte, []byte) {
	key := d.key()
	switch n := d.IntN(10); {
	case n < 4:
		return key, nil
	case n < 7:
		return key, d.key()
	case n < 8 || !isOpenAllowed:
		return key[:1], []byte{key[0] + 1}
	case n < 9:
		return key, []byte{0}
	default:
		return []byte{0}, []byte{0}
	}
}

// around draws a revision: mostly one that can be read, sometimes a future one, zero or a negative one.
func (d *dice) around() int64 {
	switch n := d.IntN(10); {
	case n < 6:
		return d.revision - d.Int64N(min(d.revision, 30))
	case n < 7:
		return d.revision + d.Int64N(3)
	case n < 8:
		return -d.Int64N(3)
	default:
		return 0
	}
}

func (d *dice) chance(percent int) bool {
	return d.IntN(100) < percent
}

func (d *dice) put() *pb.PutRequest {
	request := &pb.PutRequest{Key: d.key(), Value: []byte(strings.Repeat("v", d.IntN(4)) + fmt.Sprint(d.IntN(5))), PrevKv: d.chance(30)}
	if d.chance(10) {
		request.IgnoreValue = true
		if d.chance(80) {
			request.Value = nil
		}
	}
	request.IgnoreLease = d.chance(10)
	if d.chance(3) {
		request.Lease = d.Int64N(5)
	}
	if d.chance(2) {
		request.Key = nil
	}
	return request
}

func (d *dice) deleteRange(isOpenAllowed bool) *pb.DeleteRangeRequest {
	key, end := d.ends(isOpenAllowed && d.chance(20))
	return &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: d.chance(50)}
}

func (d *dice) rangeRequest() *pb.RangeRequest {
	key, end := d.ends(true)
	request := &pb.RangeRequest{Key: key, RangeEnd: end, Serializable: d.chance(30), KeysOnly: d.chance(15), CountOnly: d.chance(15)}
	if d.chance(40) {
		request.Revision = d.around()
	}
	if d.chance(40) {
		request.Limit = d.Int64N(6) - 1
	}
	if d.chance(40) {
		request.SortOrder = pb.RangeRequest_SortOrder(d.IntN(3))
		request.SortTarget = pb.RangeRequest_SortTarget(d.IntN(5))
	}
	if d.chance(10) {
		request.MinModRevision = d.around()
	}
	if d.chance(10) {
		request.MaxModRevision = d.around()
	}
	if d.chance(10) {
		request.MinCreateRevision = d.around()
	}
	if d.chance(10) {
		request.MaxCreateRevision = d.around()
	}
	return request
}

const depthMax = 3

func (d *dice) txn(depth int) *pb.TxnRequest {
	request := &pb.TxnRequest{}
	for range d.IntN(3) {
		request.Compare = append(request.Compare, d.compare())
	}
	for range d.IntN(5) {
		request.Success = append(request.Success, d.op(depth))
	}
	for range d.IntN(4) {
		request.Failure = append(request.Failure, d.op(depth))
	}
	return request
}

func (d *dice) op(depth int) *pb.RequestOp {
	switch n := d.IntN(100); {
	case n < 35:
		put := d.put()
		if d.written[string(put.Key)] && d.chance(95) {
			return d.rangeOp()
		}
		d.written[string(put.Key)] = true
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
	case n < 50:
		// No delete-from-key: stock etcd loses the newest record of one that a put follows, once it is compacted.
		key, end := d.key(), []byte(nil)
		if d.chance(20) {
			key, end = d.ends(false)
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: d.chance(50)},
		}}
	case n < 65 && depth < depthMax:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: d.txn(depth + 1)}}
	default:
		return d.rangeOp()
	}
}

func (d *dice) rangeOp() *pb.RequestOp {
	request := d.rangeRequest()
	if d.chance(80) {
		request.Revision = 0
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: request}}
}

func (d *dice) compare() *pb.Compare {
	key, end := d.ends(true)
	if d.chance(60) {
		end = nil
	}
	compare := &pb.Compare{
		Key:      key,
		RangeEnd: end,
		Result:   pb.Compare_CompareResult(d.IntN(4)),
		Target:   pb.Compare_CompareTarget(d.IntN(5)),
	}
	switch d.IntN(5) {
	case 0:
		compare.TargetUnion = &pb.Compare_Version{Version: d.Int64N(4)}
	case 1:
		compare.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: d.around()}
	case 2:
		compare.TargetUnion = &pb.Compare_ModRevision{ModRevision: d.around()}
	case 3:
		compare.TargetUnion = &pb.Compare_Value{Value: []byte(fmt.Sprint(d.IntN(5)))}
	default:
		compare.TargetUnion = &pb.Compare_Lease{Lease: d.Int64N(2)}
	}
	return compare
}

// roll sends drawn requests to both and stops at the first difference: what follows one tells nothing.
func roll(a, b target, seed uint64, rolls int, report func(map[string]any)) int {
	d := newDice(seed)
	for place := range rolls {
		path, request := d.next()
		left, right := a.send(path, request), b.send(path, request)
		if left.text() != right.text() {
			report(map[string]any{
				"seed": seed, "roll": place, "path": path, "request": prototext.Format(request), "a": left, "b": right,
			})
			return 1
		}
		if state := a.send("KV/Range", &pb.RangeRequest{Key: []byte("a"), CountOnly: true, Serializable: true}); len(state.Messages) == 1 {
			d.revision = revisionOf(state)
		}
	}
	return 0
}

func (t target) send(path string, request proto.Message) answer {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	method, err := describe(path)
	if err != nil {
		panic(err)
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		panic(err)
	}
	full := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	return t.post(ctx, full, method, frame(encoded, 0), nil)
}

func revisionOf(a answer) int64 {
	message, _ := a.Messages[0].(map[string]any)
	header, _ := message["header"].(map[string]any)
	var revision int64
	if _, err := fmt.Sscan(fmt.Sprint(header["revision"]), &revision); err != nil {
		panic(fmt.Sprintf("no revision in %v", a.Messages))
	}
	return revision
}
