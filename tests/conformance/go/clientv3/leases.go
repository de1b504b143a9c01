package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

var leaseChecks = []check{
	{"a lease takes its keys with it when it is revoked", leaseRevoked},
	{"a lease that nobody renews ends after its time, and not before", leaseEnds},
	{"a lease that is kept alive outlives its time", leaseKeptAlive},
	{"errors and answers about leases that are not there", leaseErrors},
	{"a mutex is held by one session at a time", mutex},
	{"a session that ends gives its mutex away", sessionEnds},
	{"leaders are elected one after the other, and observed", election},
}

func leaseRevoked(ctx context.Context, c *clientv3.Client) error {
	lease, err := c.Grant(ctx, 60)
	if err != nil {
		return err
	}
	for _, key := range []string{"lr/b", "lr/a"} {
		if _, err := c.Put(ctx, key, "", clientv3.WithLease(lease.ID)); err != nil {
			return err
		}
	}
	left, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	if left.GrantedTTL != 60 || left.TTL < 50 || len(left.Keys) != 2 {
		return fmt.Errorf("time to live: %v", left)
	}
	events := c.Watch(ctx, "lr/", clientv3.WithPrefix(), clientv3.WithRev(left.Revision+1))
	revoked, err := c.Revoke(ctx, lease.ID)
	if err != nil {
		return err
	}
	told, err := next(ctx, events, 2)
	if err != nil {
		return err
	}
	if text := shown(told); text != "DELETE lr/a= v0, DELETE lr/b= v0" {
		return errors.New(text)
	}
	if told[1].Kv.ModRevision != revoked.Header.Revision || told[0].Kv.ModRevision != told[1].Kv.ModRevision {
		return fmt.Errorf("revoked at %d: %v", revoked.Header.Revision, told)
	}
	return nil
}

func leaseEnds(ctx context.Context, c *clientv3.Client) error {
	began := time.Now()
	lease, err := c.Grant(ctx, 2)
	if err != nil {
		return err
	}
	put, err := c.Put(ctx, "le", "", clientv3.WithLease(lease.ID))
	if err != nil {
		return err
	}
	if _, err := next(ctx, c.Watch(ctx, "le", clientv3.WithRev(put.Header.Revision+1)), 1); err != nil {
		return err
	}
	if lived := time.Since(began); lived < 2*time.Second {
		return fmt.Errorf("it lived for %v", lived)
	}
	return nil
}

func leaseKeptAlive(ctx context.Context, c *clientv3.Client) error {
	lease, err := c.Grant(ctx, 2)
	if err != nil {
		return err
	}
	alive, stop := context.WithCancel(ctx)
	defer stop()
	answers, err := c.KeepAlive(alive, lease.ID)
	if err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < 4*time.Second; {
		answer, ok := <-answers
		if !ok || answer.TTL != 2 || answer.ID != lease.ID {
			return fmt.Errorf("kept alive: %v %v", answer, ok)
		}
	}
	if left, err := c.TimeToLive(ctx, lease.ID); err != nil || left.TTL < 0 {
		return fmt.Errorf("it ended: %v %v", left, err)
	}
	if _, err := c.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	for range answers {
	}
	return nil
}

func leaseErrors(ctx context.Context, c *clientv3.Client) error {
	const nobody = clientv3.LeaseID(0x7777)
	if _, err := c.Revoke(ctx, nobody); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke: %v", err)
	}
	if _, err := c.KeepAliveOnce(ctx, nobody); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("keep alive: %v", err)
	}
	if _, err := c.Put(ctx, "ln", "", clientv3.WithLease(nobody)); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("put: %v", err)
	}
	if _, err := c.Grant(ctx, 9_000_000_001); !errors.Is(err, rpctypes.ErrLeaseTTLTooLarge) {
		return fmt.Errorf("grant: %v", err)
	}
	left, err := c.TimeToLive(ctx, nobody)
	if err != nil || left.TTL != -1 || left.GrantedTTL != 0 {
		return fmt.Errorf("time to live: %v %v", left, err)
	}
	return nil
}

func mutex(ctx context.Context, c *clientv3.Client) error {
	const workers, rounds = 5, 6
	inside, done := 0, make(chan error, workers)
	for range workers {
		go func() {
			done <- func() error {
				session, err := concurrency.NewSession(c, concurrency.WithTTL(30))
				if err != nil {
					return err
				}
				defer session.Close()
				lock := concurrency.NewMutex(session, "mx")
				for range rounds {
					if err := lock.Lock(ctx); err != nil {
						return err
					}
					if inside++; inside != 1 {
						return fmt.Errorf("%d hold it", inside)
					}
					inside--
					if err := lock.Unlock(ctx); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			return err
		}
	}
	return nil
}

func sessionEnds(ctx context.Context, c *clientv3.Client) error {
	first, err := concurrency.NewSession(c, concurrency.WithTTL(2))
	if err != nil {
		return err
	}
	held := concurrency.NewMutex(first, "ms")
	if err := held.Lock(ctx); err != nil {
		return err
	}
	second, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	defer second.Close()
	wanted := concurrency.NewMutex(second, "ms")
	if err := wanted.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("try lock: %v", err)
	}
	// Its keep-alives end, and nothing else.
	first.Orphan()
	return wanted.Lock(ctx)
}

func election(ctx context.Context, c *clientv3.Client) error {
	var sessions [2]*concurrency.Session
	var elections [2]*concurrency.Election
	for at := range sessions {
		session, err := concurrency.NewSession(c)
		if err != nil {
			return err
		}
		defer session.Close()
		sessions[at], elections[at] = session, concurrency.NewElection(session, "el")
	}
	if _, err := elections[0].Leader(ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		return fmt.Errorf("leader of nobody: %v", err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	observed := elections[1].Observe(watching)
	sees := func(value string) error {
		select {
		case got := <-observed:
			if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value {
				return fmt.Errorf("observed %v instead of %s", got.Kvs, value)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("nobody observed %s", value)
		}
	}
	if err := elections[0].Campaign(ctx, "one"); err != nil {
		return err
	}
	if err := sees("one"); err != nil {
		return err
	}
	if err := elections[0].Proclaim(ctx, "uno"); err != nil {
		return err
	}
	if err := sees("uno"); err != nil {
		return err
	}
	won := make(chan error, 1)
	go func() { won <- elections[1].Campaign(ctx, "two") }()
	if err := elections[0].Resign(ctx); err != nil {
		return err
	}
	if err := <-won; err != nil {
		return err
	}
	return sees("two")
}
