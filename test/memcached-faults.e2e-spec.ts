import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { memcachedCache, type MemcachedCacheOptions } from 'nestjs-pg-idempotency/memcached';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest';
import type { SharedCache } from '../libs/idempotency/src/cache/shared-cache.js';
import { startFaultyMemcached, type Fault } from './support/faulty-memcached.js';
import { describeWith } from './support/servers.js';
import { startMemcached, startMemcachedNodes, type MemcachedServer } from './support/topology.js';
import { until } from './support/until.js';

const MINUTE = { ttlMs: 60_000 };
/** Far less than any timeout that is set here, and enough for a busy machine. */
const AT_ONCE_MS = 150;

describeWith(['memcached'], 'Faults of Memcached', () => {
  const uncaught: unknown[] = [];
  const note = (error: unknown): void => void uncaught.push(error);
  const logged: string[] = [];
  const ignore = (): void => undefined;
  beforeAll(() => {
    process.on('uncaughtException', note);
    process.on('unhandledRejection', note);
    Logger.overrideLogger({
      log: (message: string) => logged.push(message),
      warn: (message: string) => logged.push(message),
      error: (message: string) => logged.push(message),
      debug: ignore,
      verbose: ignore,
    });
  });
  beforeEach(() => void logged.splice(0));
  afterEach(() => expect(uncaught).toEqual([]));
  afterAll(() => {
    process.off('uncaughtException', note);
    process.off('unhandledRejection', note);
  });

  it('rejects at once while a node is away, works with the others, and takes it up when it is back', async () => {
    const { nodes, stop } = await startMemcachedNodes(3);
    onTestFinished(stop);
    const cache = opened({ nodes: nodes.map(nodeAt) });
    const lost = nodes[1] as MemcachedServer;
    const keys = nodes.map((node) => keyOn(cache, nodeAt(node)));
    for (const key of keys) await works(cache, key);
    await lost.kill();
    await until('its keys reject', () => rejects(cache.get(keys[1] as string)));

    for (let time = 0; time < 20; time++) {
      const begun = performance.now();
      await expect(cache.get(keys[1] as string)).rejects.toThrow(`Memcached ${nodeAt(lost)} is away`);
      expect(performance.now() - begun).toBeLessThan(AT_ONCE_MS);
    }
    for (const key of [keys[0], keys[2]] as string[]) await works(cache, key);

    await lost.restart();
    await works(cache, keys[1] as string);
    expect(logged.filter((line) => line.includes(nodeAt(lost)))).toEqual([
      expect.stringContaining(`Memcached ${nodeAt(lost)} is away: `),
      `Memcached ${nodeAt(lost)} answers again.`,
    ]);
    expect(logged).toHaveLength(2);
  });

  it('is there when its node comes up after the application', async () => {
    const server = await startMemcached();
    onTestFinished(() => server.stop());
    await server.kill();
    const cache = opened({ nodes: [nodeAt(server)] });
    await until('it has tried', () => logged.length > 0);
    await expect(cache.set('k', Buffer.from('x'), MINUTE)).rejects.toThrow('ECONNREFUSED');
    await server.restart();
    await works(cache, 'k');
  });

  it('gives up on a frozen node after its timeout, then rejects at once, and goes on when it runs again', async () => {
    const { nodes, stop } = await startMemcachedNodes(2);
    onTestFinished(stop);
    const cache = opened({ nodes: nodes.map(nodeAt), timeout: '500ms', maxPending: 50 });
    const [frozen, other] = nodes as [MemcachedServer, MemcachedServer];
    const key = keyOn(cache, nodeAt(frozen));
    const key2 = keyOn(cache, nodeAt(other));
    await works(cache, key);
    await works(cache, key2);
    await frozen.pause();
    onTestFinished(() => frozen.resume());

    const begun = performance.now();
    const ends = await Promise.all(
      Array.from({ length: 200 }, () =>
        cache.get(key).then(
          () => ({ reason: 'answered', ms: 0 }),
          (error: Error) => ({ reason: error.message, ms: performance.now() - begun }),
        ),
      ),
    );
    const waited = ends.filter(({ reason }) => reason.includes('did not answer within 500 ms'));
    const refused = ends.filter(({ reason }) => reason.includes('50 questions are without an answer'));
    expect([waited.length, refused.length]).toEqual([50, 150]);
    for (const { ms } of waited) expect(ms).toBeGreaterThanOrEqual(499);
    for (const { ms } of refused) expect(ms).toBeLessThan(450);

    // The system accepts new connections for it, but it does not tell its version: it stays away.
    for (let time = 0; time < 10; time++) {
      const asked = performance.now();
      await expect(cache.get(key)).rejects.toThrow('is away');
      expect(performance.now() - asked).toBeLessThan(AT_ONCE_MS);
    }
    await works(cache, key2);
    frozen.resume();
    await works(cache, key);
  });

  it('holds back no more than a few megabytes for a server that does not read', async () => {
    const server = await startMemcached();
    onTestFinished(() => server.stop());
    const cache = opened({ nodes: [nodeAt(server)], timeout: '1s' });
    await works(cache, 'k');
    await server.pause();
    const value = Buffer.alloc(1_000_000);
    const reasons = await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        cache.set(`large:${index}`, value, MINUTE).then(
          () => 'stored',
          (error: Error) => error.message,
        ),
      ),
    );
    const held = reasons.filter((reason) => reason.includes('did not answer')).length;
    expect(reasons.filter((reason) => reason.includes('wait to be sent')).length).toBe(100 - held);
    expect(held).toBeLessThan(40);
    server.resume();
    await works(cache, 'k');
  });

  it.each<[string, string, string]>([
    ['another protocol', 'HTTP/1.1 400 Bad Request\r\n\r\n', 'it answered "HTTP/1.1 400'],
    ["another key's value", 'VALUE other 0 3\r\nabc\r\nEND\r\n', 'a value that was not asked for'],
    ['a value twice', 'VALUE k 0 1\r\na\r\nVALUE k 0 1\r\nb\r\nEND\r\n', 'a value that was not asked for'],
    ['no length', 'VALUE k 0 NaN\r\nabc\r\nEND\r\n', 'it sent "VALUE k 0 NaN"'],
    ['a length that is too short', 'VALUE k 0 2\r\nabc\r\nEND\r\n', 'does not end where it said'],
    ['a length beyond all limits', 'VALUE k 0 4000000000\r\nabc', 'it sent "VALUE k 0 4000000000"'],
    ['a line without an end', 'x'.repeat(5_000), 'a line that is longer'],
    ['out of memory', 'SERVER_ERROR out of memory reading request\r\n', 'out of memory reading request'],
    ['the answer to another question', 'STORED\r\n', 'it answered "STORED"'],
    ['an empty line', '\r\n', 'it answered ""'],
    ['an answer that is cut in the value', 'VALUE k 0 100\r\nabc', 'closed the connection'],
    ['an answer that is cut in the line', 'VALU', 'closed the connection'],
    ['nothing', '', 'closed the connection'],
  ])(
    'rejects when a server answers with %s, and does not go on with the connection',
    async (_, text, reason) => {
      const faulty = await startFaultyMemcached(
        first((socket) => {
          if (reason.includes('closed')) socket.end(text);
          else socket.write(text);
        }),
      );
      onTestFinished(() => faulty.close());
      const cache = opened({ nodes: [`127.0.0.1:${faulty.port}`] });
      await isThere(cache);
      await expect(cache.get('k')).rejects.toThrow(reason);
      // What was left of the first answer is no part of the second.
      expect(await until('it answers again', () => read(cache, 'second'))).toBe('second');
      expect(faulty.connections()).toBe(2);
    },
  );

  it('never gives an answer that comes too late to the next question', async () => {
    let late: Socket | undefined;
    const faulty = await startFaultyMemcached((socket, question) => {
      const key = question.split(' ')[1] as string;
      if (!late) {
        late = socket;
        return;
      }
      late.write('VALUE slow 0 4\r\nslow\r\nEND\r\n');
      socket.write(`VALUE ${key} 0 ${key.length}\r\n${key}\r\nEND\r\n`);
    });
    onTestFinished(() => faulty.close());
    const cache = opened({ nodes: [`127.0.0.1:${faulty.port}`], timeout: '200ms' });
    await isThere(cache);
    await expect(cache.get('slow')).rejects.toThrow('did not answer within 200 ms');
    expect(await until('it answers again', () => read(cache, 'next'))).toBe('next');
  });

  it('takes nothing that was not asked for as the answer to what is asked next', async () => {
    const faulty = await startFaultyMemcached(
      first((socket) => socket.write('VALUE a 0 1\r\na\r\nEND\r\nVALUE b 0 3\r\nold\r\nEND\r\n')),
    );
    onTestFinished(() => faulty.close());
    const cache = opened({ nodes: [`127.0.0.1:${faulty.port}`] });
    await isThere(cache);
    expect(await read(cache, 'a')).toBe('a');
    expect(await until('it answers again', () => read(cache, 'b'))).toBe('b');
  });

  it('reads an answer that comes byte by byte', async () => {
    const faulty = await startFaultyMemcached((socket, question) => {
      socket.setNoDelay(true);
      const key = question.split(' ')[1] as string;
      void (async () => {
        for (const byte of `VALUE ${key} 0 6\r\n\r\nEND\r\r\nEND\r\n`) {
          socket.write(byte);
          await new Promise(setImmediate);
        }
      })();
    });
    onTestFinished(() => faulty.close());
    const cache = opened({ nodes: [`127.0.0.1:${faulty.port}`] });
    await isThere(cache);
    for (const key of ['a', 'b', 'a']) expect(await read(cache, key)).toBe('\r\nEND\r');
  });

  it('does not use a server that is no Memcached, and asks it less and less often', async () => {
    const faulty = await startFaultyMemcached(ignore, 'SSH-2.0-OpenSSH\r\n');
    onTestFinished(() => faulty.close());
    const cache = opened({ nodes: [`127.0.0.1:${faulty.port}`] });
    const begun = performance.now();
    await until('it has tried four times', () => faulty.connections() >= 4);
    // At once, then after 100 and 200 ms.
    expect(performance.now() - begun).toBeGreaterThan(250);
    await expect(cache.get('k')).rejects.toThrow('it answered "SSH-2.0-OpenSSH"');
    expect(logged).toHaveLength(1);
  });

  it('logs once for a node that comes and goes', async () => {
    const faulty = await startFaultyMemcached((socket, question) => {
      socket.write(question.endsWith('bad') ? 'SERVER_ERROR\r\n' : 'END\r\n');
    });
    onTestFinished(() => faulty.close());
    const cache = opened({ nodes: [`127.0.0.1:${faulty.port}`] });
    for (let time = 0; time < 5; time++) {
      await until('it answers', async () => !(await rejects(cache.get('good'))));
      await expect(cache.get('bad')).rejects.toThrow('SERVER_ERROR');
    }
    expect(faulty.connections()).toBeGreaterThanOrEqual(5);
    expect(logged).toHaveLength(2);
  });

  it('closes at once, whatever is under way, leaves nothing behind and stays closed', async () => {
    const { nodes, stop } = await startMemcachedNodes(2);
    onTestFinished(stop);
    const left = (): number =>
      process.getActiveResourcesInfo().filter((name) => /^(?:TCP|Timeout)/.test(name)).length;
    const before = left();
    const cache = memcachedCache({ nodes: [...nodes.map(nodeAt), '127.0.0.1:1'] });
    cache.start();
    const keys = nodes.map((node) => keyOn(cache, nodeAt(node)));
    for (const key of keys) await works(cache, key);
    await (nodes[0] as MemcachedServer).pause();
    const underWay = Promise.allSettled(keys.map((key) => cache.get(key)));
    const begun = performance.now();
    await cache.close();
    await cache.close();
    expect((await underWay).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(performance.now() - begun).toBeLessThan(AT_ONCE_MS);
    await until('nothing is left', () => left() <= before);
    cache.start();
    await expect(cache.get('k')).rejects.toThrow('The cache is closed.');
    expect(logged.filter((line) => !line.includes('127.0.0.1:1 '))).toEqual([]);
  });

  function opened(options: MemcachedCacheOptions): SharedCache {
    const cache = memcachedCache(options);
    onTestFinished(() => cache.close());
    cache.start();
    return cache;
  }
});

/** The first question meets the fault, the others are answered with their key. */
function first(fault: (socket: Socket) => void): Fault {
  let met = false;
  return (socket, question) => {
    const key = question.split(' ')[1] as string;
    if (met) socket.write(`VALUE ${key} 0 ${key.length}\r\n${key}\r\nEND\r\n`);
    else fault(socket);
    met = true;
  };
}

async function works(cache: SharedCache, key: string): Promise<void> {
  const value = randomUUID();
  await until(`the node of ${key} works`, async () => {
    if (await rejects(cache.set(key, Buffer.from(value), MINUTE))) return false;
    return (await read(cache, key)) === value;
  });
}

/** The server answers this one question as it should. */
async function isThere(cache: SharedCache): Promise<void> {
  await until('it is there', async () => !(await rejects(cache.get('ready'))));
}

function keyOn(cache: SharedCache, name: string): string {
  for (;;) {
    const key = `test:${randomUUID()}`;
    if (cache.nodeOf(key) === name) return key;
  }
}

function rejects(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => false,
    () => true,
  );
}

function read(cache: SharedCache, key: string): Promise<string | undefined> {
  return cache.get(key).then(
    (value) => value && Buffer.from(value).toString(),
    () => undefined,
  );
}

function nodeAt({ host, port }: { host: string; port: number }): string {
  return `${host}:${port}`;
}
