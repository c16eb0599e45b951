// ioredis against a node: node ioredis.js PORT
'use strict';

const assert = require('node:assert/strict');
const { Redis } = require('ioredis');

const port = Number(process.argv[2]);

async function main() {
  const errors = [];
  // The ready check reads INFO's "loading".
  const client = new Redis({ port, host: '127.0.0.1', db: 0, connectionName: 'tester' });
  client.on('error', (error) => errors.push(error));
  await client.flushall();

  assert.equal(await client.ping(), 'PONG');
  assert.equal(await client.set('k', 'v', 'EX', 100, 'NX'), 'OK');
  assert.equal(await client.set('k', 'v', 'NX'), null);
  assert.equal(await client.get('k'), 'v');
  assert.deepEqual(await client.getBuffer('k'), Buffer.from('v'));
  assert.equal(await client.incrby('n', 5), 5);
  assert.equal(await client.hset('h', { f: 1, g: 2 }), 2);
  assert.deepEqual({ ...(await client.hgetall('h')) }, { f: '1', g: '2' });
  await client.rpush('l', 'a', 'b');
  assert.deepEqual(await client.lrange('l', 0, -1), ['a', 'b']);
  assert.equal(await client.lpop('none', 2), null);
  assert.deepEqual(await client.mget('k', 'none'), ['v', null]);
  await assert.rejects(client.lpush('k', 'x'), /WRONGTYPE/);
  await assert.rejects(client.call('NONSENSE'), /unknown command/);

  const found = [];
  for await (const keys of client.scanStream({ match: '?', count: 100 })) found.push(...keys);
  assert.deepEqual(found.sort(), ['h', 'k', 'l', 'n']);

  const piped = await client.pipeline().set('p', '1').incr('p').lpush('p', 'x').get('p').exec();
  assert.deepEqual(piped.map(([error, value]) => (error ? error.message.split(' ')[0] : value)), [
    'OK', 2, 'WRONGTYPE', '2',
  ]);
  assert.deepEqual(await client.multi().set('t', '1').incr('t').exec(), [[null, 'OK'], [null, 2]]);
  await client.multi({ pipeline: false });
  assert.equal(await client.set('t', '5'), 'QUEUED');
  assert.deepEqual(await client.exec(), [[null, 'OK']]);
  const aborted = client.multi().set('t').exec();
  await assert.rejects(aborted, /EXECABORT/);

  const other = client.duplicate();
  await client.watch('t');
  await other.set('t', '7');
  assert.equal(await client.multi().set('t', '8').exec(), null);
  await client.watch('t');
  await client.unwatch();
  await other.set('t', '9');
  assert.deepEqual(await client.multi().incr('t').exec(), [[null, 10]]);

  assert.match(await client.info(), /# Keyspace\r\ndb0:keys=6,expires=1,avg_ttl=0/);
  assert.equal(await client.client('GETNAME'), 'tester');
  assert.match(await client.client('LIST'), /name=tester/);
  assert.deepEqual(await client.config('GET', 'save'), ['save', '']);
  assert.equal(await client.dbsize(), 6);
  assert.equal(await client.select(0), 'OK');
  assert.deepEqual(await client.slowlog('GET'), []);

  other.disconnect();
  assert.equal(await client.quit(), 'OK');
  assert.deepEqual(errors, []);
  console.log('passed', require('ioredis/package.json').version);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
