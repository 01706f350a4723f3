import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { send } from './support/http.js';
import { describeWith, startServer, type ServerProcess } from './support/servers.js';
import { until } from './support/until.js';

const SCRIPT = 'scripts/start-scaled.mjs';

describeWith(['nginx', 'pgbouncer', 'redis-server', 'memcached'], 'npm run start:scaled', () => {
  let dataDir: string;
  let scaled: ServerProcess | undefined;

  beforeEach(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'idempotency-scaled-'));
  });
  afterEach(async () => {
    if (scaled?.isRunning()) {
      // It ends all that it has started.
      const exited = once(scaled.process, 'exit');
      scaled.signal('SIGTERM');
      await exited;
    }
    rmSync(dataDir, { recursive: true, force: true });
  });

  const start = (args: string[], env: Record<string, string> = {}): ServerProcess => {
    const { npm_lifecycle_event: _npm, PAYMENT_PROVIDER_URL: _provider, ...outer } = process.env;
    scaled = startServer(process.execPath, [SCRIPT, ...args], {
      env: { ...outer, PORT: '0', PROVIDER_PORT: '0', DATA_DIR: dataDir, ...env },
    });
    return scaled;
  };
  const isAlive = (pid: number): boolean => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };

  it.each(['redis-cluster', 'memcached'])(
    'adds an item once, whichever instance is killed, and leaves nothing behind: %s',
    async (cache) => {
      const running = start(['--cache', cache]);
      const url = await until(
        'it listens',
        () => {
          if (!running.isRunning()) throw new Error(running.output());
          return /cart listens on (http:\S+)[^]*curl/.exec(running.output())?.[1];
        },
        120_000,
      );
      const pids = [...running.output().matchAll(/, process (\d+)/g)].map(([, pid]) => Number(pid));
      expect(pids).toHaveLength(4);
      expect(running.output()).toContain(`${cache}://127.0.0.1:`);

      const key = randomUUID();
      const add = () =>
        send(`${url}/carts/alice/items`, {
          headers: { 'idempotency-key': key },
          body: { itemId: 'book', quantity: 2 },
        });
      const first = await add();
      process.kill(pids[0] as number, 'SIGKILL');
      const retries = [];
      for (let round = 0; round < 8; round++) retries.push(await add());
      const cart = await send(`${url}/carts/alice`, { method: 'GET' });
      expect(cart.json()).toMatchObject({ items: [{ itemId: 'book', quantity: 2 }] });
      expect(first.status).toBe(201);
      expect(new Set(retries.map(({ status, text }) => `${status} ${text}`))).toEqual(
        new Set([`200 ${first.text}`]),
      );

      const exited = once(running.process, 'exit');
      running.signal('SIGINT');
      expect(await exited).toEqual([0, null]);
      expect(pids.filter(isAlive)).toEqual([]);
      await expect(send(url, { method: 'GET' })).rejects.toThrow('ECONNREFUSED');
    },
    180_000,
  );

  it('says which packages are missing, and starts nothing', async () => {
    // Redis is in a folder of the PATH; nginx and PgBouncer are looked for in others as well.
    const running = start([], { PATH: '' });
    const [code] = (await once(running.process, 'exit')) as [number];
    expect(running.output()).toMatch(
      /Not installed: redis-server\. On Debian 12: apt-get install redis-server\n/,
    );
    expect(running.output()).not.toContain('starting');
    expect(code).toBe(1);
  });

  it('refuses a cache that it does not know', async () => {
    const running = start(['--cache', 'none-such']);
    const [code] = (await once(running.process, 'exit')) as [number];
    expect(running.output()).toContain('--cache is one of redis-cluster, memcached, none');
    expect(code).toBe(2);
  });
});
