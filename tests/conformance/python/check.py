"""Uses a server through a Python client over grpcio; says what holds and ends with 1 if something does not."""

import asyncio
import sys
import time

import aetcd


async def keys(client):
    await client.put(b"py/1", b"one")
    put = await client.put(b"py/1", b"uno", prev_kv=True)
    assert put.prev_kv.value == b"one", put
    got = await client.get(b"py/1")
    assert (got.value, got.version, got.mod_revision) == (b"uno", 2, put.header.revision), got
    assert await client.get(b"py/none") is None


async def ranges(client):
    for number in range(20):
        await client.put(b"pr/%02d" % number, b"%d" % (20 - number))
    whole = await client.get_prefix(b"pr/")
    assert [kv.key for kv in whole] == [b"pr/%02d" % number for number in range(20)]
    part = await client.get_range(b"pr/05", b"pr/08", sort_order="descend", sort_target="key")
    assert [kv.key for kv in part] == [b"pr/07", b"pr/06", b"pr/05"], part
    deleted = await client.delete_range(b"pr/10", b"pr/15")
    assert deleted.deleted == 5, deleted
    assert (await client.delete_prefix(b"pr/")).deleted == 15


async def txns(client):
    txn = client.transactions
    await client.put(b"pt", b"1")
    done, answers = await client.transaction(
        compare=[txn.value(b"pt") == b"1", txn.version(b"pt") > 0, txn.create(b"pt/none") == 0],
        success=[txn.put(b"pt", b"2"), txn.get(b"pt")],
        failure=[txn.delete(b"pt")],
    )
    assert done and answers[1][0][0] == b"2", answers
    done, answers = await client.transaction(
        compare=[txn.mod(b"pt") == 1], success=[txn.put(b"pt", b"3")], failure=[txn.get(b"pt")]
    )
    assert not done and answers[0][0][0] == b"2", answers
    assert await client.replace(b"pt", b"2", b"4")
    assert not await client.replace(b"pt", b"2", b"5")


async def errors(client):
    for call, word in [
        (client.put(b"", b"x"), "key is not provided"),
        (client.compact(1 << 40), "future revision"),
    ]:
        try:
            await call
        except Exception as error:  # The library wraps some codes and passes others on.
            assert word in str(error) or word in repr(error.__cause__), repr(error)
        else:
            raise AssertionError(word)


async def concurrency(client):
    await asyncio.gather(*(client.put(b"pc/%03d" % number, b"x" * 2000) for number in range(300)))
    assert len(list(await client.get_prefix(b"pc/"))) == 300


async def large(client):
    value = bytes(range(256)) * 4096
    await client.put(b"pl", value)
    assert (await client.get(b"pl")).value == value


async def maintenance(client):
    status = await client.status()
    assert status.version.startswith("3.7.") and status.db_size > 0, vars(status)
    members = [member async for member in client.members()]
    assert len(members) == 1 and members[0].client_urls, members
    await client.defragment()
    assert [alarm async for alarm in client.list_alarms()] == []
    put = await client.put(b"pm", b"1")
    await client.compact(put.header.revision, physical=True)


async def watches(client):
    watch = await client.watch_prefix(b"pw/")
    await client.put(b"pw/a", b"1")
    await client.put(b"px/a", b"1")
    await client.put(b"pw/b", b"2")
    await client.delete(b"pw/a")
    seen = []
    async for event in watch:
        seen.append((str(event.kind), event.kv.key, event.kv.value))
        if len(seen) == 3:
            break
    await watch.cancel()
    expected = [("PUT", b"pw/a", b"1"), ("PUT", b"pw/b", b"2"), ("DELETE", b"pw/a", b"")]
    assert seen == expected, seen


async def leases(client):
    lease = await client.lease(60)
    for key in [b"pe/b", b"pe/a"]:
        await client.put(key, b"", lease=lease)
    assert await lease.granted_ttl() == 60
    assert 50 <= await lease.remaining_ttl() < 60
    assert sorted(await lease.keys()) == [b"pe/a", b"pe/b"]
    refreshed = await lease.refresh()
    assert refreshed.TTL == 60, refreshed
    await lease.revoke()
    assert await client.get(b"pe/a") is None
    assert await lease.remaining_ttl() == -1
    began = time.monotonic()
    short = await client.lease(2)
    watch = await client.watch(b"pe/c")
    await client.put(b"pe/c", b"", lease=short)
    async for event in watch:
        if event.kind == "DELETE":
            break
    await watch.cancel()
    assert time.monotonic() - began >= 2


async def locks(client):
    async with client.lock(b"pk", ttl=10) as first:
        assert await first.is_acquired()
        assert not await client.lock(b"pk", ttl=10).acquire(timeout=1)
    async with client.lock(b"pk", ttl=10) as second:
        assert await second.is_acquired()


async def main(host, port):
    failed = 0
    async with aetcd.Client(host=host, port=port, timeout=60) as client:
        for check in [keys, ranges, txns, errors, concurrency, large, watches, leases, locks, maintenance]:
            try:
                await check(client)
                print("held  ", check.__name__)
            except Exception as error:
                failed += 1
                print("FAILED", check.__name__, repr(error))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]))))
