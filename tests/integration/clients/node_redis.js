// node-redis against a node: node node_redis.js PORT PROTOCOL
'use strict';

const assert = require('node:assert/strict');
const { createClient, WatchError } = require('redis');

const port = Number(process.argv[2]);
const RESP = Number(process.argv[3]);

async function main() {
  const errors = [];
  const client = createClient({ url: `redis://127.0.0.1:${port}/0`, RESP, name: 'tester' });
  client.on('error', (error) => errors.push(error));
  await client.connect();
  await client.flushAll();

  assert.equal(await client.ping(), 'PONG');
  assert.equal(await client.set('k', 'v', { expiration: { type: 'EX', value: 100 } }), 'OK');
  assert.equal(await client.get('k'), 'v');
  assert.equal(await client.get('none'), null);
  const ttl = await client.ttl('k');
  assert.ok(ttl >= 90 && ttl <= 100, `a time to live of ${ttl} s`);
  assert.equal(await client.incrBy('n', 5), 5);
  assert.equal(await client.hSet('h', { f: '1', g: '2' }), 2);
  assert.deepEqual({ ...(await client.hGetAll('h')) }, { f: '1', g: '2' });
  assert.deepEqual(await client.hmGet('h', ['f', 'none']), ['1', null]);
  await client.rPush('l', ['a', 'b', 'c']);
  assert.deepEqual(await client.lRange('l', 0, -1), ['a', 'b', 'c']);
  await client.sAdd('s', ['x', 'y']);
  assert.deepEqual([...(await client.sMembers('s'))].sort(), ['x', 'y']);
  assert.equal(await client.sIsMember('s', 'x'), 1);
  assert.equal(await client.dbSize(), 5);

  const found = [];
  for await (const keys of client.scanIterator({ MATCH: '?', COUNT: 1000 })) found.push(...keys);
  assert.deepEqual(found.sort(), ['h', 'k', 'l', 'n', 's']);
  const fields = [];
  for await (const pairs of client.hScanIterator('h')) fields.push(...pairs);
  assert.deepEqual(fields.map(({ field, value }) => field + value).sort(), ['f1', 'g2']);
  const members = [];
  for await (const page of client.sScanIterator('s')) members.push(...page);
  assert.deepEqual(members.sort(), ['x', 'y']);

  await assert.rejects(client.lPush('k', 'x'), /WRONGTYPE/);
  await assert.rejects(client.sendCommand(['NONSENSE']), /unknown command/);

  // A pipeline, and transactions.
  const many = await Promise.all([...Array(100).keys()].map((i) => client.set(`p${i}`, String(i))));
  assert.equal(many.length, 100);
  assert.deepEqual(await client.multi().set('t', '1').incr('t').get('t').exec(), ['OK', 2, '2']);
  assert.deepEqual(await client.multi().set('t', '3').get('t').execAsPipeline(), ['OK', '3']);
  const other = await client.duplicate().connect();
  await client.watch('t');
  await other.set('t', '7');
  await assert.rejects(client.multi().set('t', '8').exec(), WatchError);
  assert.equal(await client.get('t'), '7');
  await client.watch('t');
  assert.deepEqual(await client.multi().incr('t').exec(), [8]);

  // What tells about the server.
  assert.match(await client.info('server'), /redis_version:7/);
  assert.equal(await client.clientGetName(), 'tester');
  assert.equal(typeof (await client.clientId()), 'number');
  const own = await client.clientInfo();
  assert.equal(own.name, 'tester');
  assert.equal((await client.clientList()).length, 2);
  assert.deepEqual({ ...(await client.configGet('appendonly')) }, { appendonly: 'yes' });
  assert.ok((await client.commandCount()) > 100);
  const [get] = await client.commandInfo(['get']);
  assert.equal(get.name, 'get');
  assert.equal(get.arity, 2);
  assert.ok((await client.command()).length > 100);
  await client.select(0);

  other.destroy();
  await client.close();
  assert.deepEqual(errors, []);
  console.log('passed', require('redis/package.json').version);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
