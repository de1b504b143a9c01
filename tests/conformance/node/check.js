// Uses a server through a Node client over grpc-js; says what holds and ends with 1 if something does not.

'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const { Etcd3 } = require('etcd3');

async function keys(client) {
  await client.put('js/1').value('one');
  assert.strictEqual(await client.get('js/1').string(), 'one');
  await client.put('js/2').value('two');
  assert.deepStrictEqual(await client.getAll().prefix('js/').strings(), { 'js/1': 'one', 'js/2': 'two' });
  const done = await client
    .if('js/1', 'Value', '==', 'one')
    .then(client.put('js/1').value('uno'))
    .else(client.get('js/1'))
    .commit();
  assert.ok(done.succeeded);
  assert.strictEqual((await client.delete().prefix('js/')).deleted, '2');
}

async function watches(client) {
  const watcher = await client.watch().prefix('jw/').create();
  const seen = [];
  const whole = new Promise((resolve) => {
    watcher.on('put', (kv) => seen.push(`put ${kv.key}=${kv.value}`));
    watcher.on('delete', (kv) => {
      seen.push(`delete ${kv.key}`);
      resolve();
    });
  });
  await client.put('jw/a').value('1');
  await client.put('jx/a').value('1');
  await client.put('jw/b').value('2');
  await client.delete().key('jw/a');
  await whole;
  await watcher.cancel();
  assert.deepStrictEqual(seen, ['put jw/a=1', 'put jw/b=2', 'delete jw/a']);
}

async function leases(client) {
  const lease = client.lease(5);
  await lease.put('jl').value('held');
  assert.match(await lease.grant(), /^[0-9]+$/);
  await lease.keepaliveOnce();
  assert.strictEqual(await client.get('jl').string(), 'held');
  const watcher = await client.watch().key('jl').create();
  const gone = once(watcher, 'delete');
  await lease.revoke();
  await gone;
  await watcher.cancel();
  assert.strictEqual(await client.get('jl').string(), null);
}

async function expiry(client) {
  const lease = client.lease(2, { autoKeepAlive: false });
  const watcher = await client.watch().key('je').create();
  const gone = once(watcher, 'delete');
  const granted = process.hrtime.bigint();
  await lease.put('je').value('short');
  await gone;
  assert.ok(process.hrtime.bigint() - granted > 1_900_000_000n, 'it ended early');
  await watcher.cancel();
  lease.release();
}

async function locks(client) {
  const order = [];
  const first = client.lock('jk').ttl(10);
  await first.acquire();
  await assert.rejects(client.lock('jk').ttl(10).acquire());
  order.push('first');
  await first.release();
  await client.lock('jk').do(async () => order.push('second'));
  assert.deepStrictEqual(order, ['first', 'second']);
}

async function elections(client) {
  const one = client.election('je/lection', 10);
  const campaign = one.campaign('one');
  await once(campaign, 'elected');
  assert.strictEqual(await one.leader(), 'one');
  const observer = await client.election('je/lection', 10).observe();
  assert.strictEqual(observer.leader(), 'one');
  await campaign.proclaim('uno');
  while (observer.leader() !== 'uno') {
    await once(observer, 'change');
  }
  await observer.cancel();
  await campaign.resign();
  assert.strictEqual(await one.leader(), undefined);
}

async function main(address) {
  const client = new Etcd3({ hosts: `http://${address}` });
  let failed = 0;
  for (const check of [keys, watches, leases, expiry, locks, elections]) {
    try {
      await check(client);
      console.log('held  ', check.name);
    } catch (error) {
      failed += 1;
      console.log('FAILED', check.name, error);
    }
  }
  client.close();
  return failed === 0 ? 0 : 1;
}

const patience = setTimeout(() => {
  console.log('FAILED: no end in 60 s');
  process.exit(1);
}, 60_000);

main(process.argv[2]).then((code) => {
  clearTimeout(patience);
  process.exit(code);
});
