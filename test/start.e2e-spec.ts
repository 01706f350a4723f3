import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startCart } from './support/cart-process.js';
import { createDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { until } from './support/until.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** A process that is started as a person at a terminal does it: in a process group of its own. */
interface Started {
  readonly child: ChildProcess;
  output(): string;
  /** The address it says that it listens on. */
  url(): Promise<string>;
  /** A signal to the whole group, as Ctrl-C sends it. */
  signalGroup(signal: NodeJS.Signals): void;
  exit(): Promise<number | NodeJS.Signals>;
}

describe('npm start', () => {
  let dataDir: string;
  const started: Started[] = [];

  beforeEach(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'idempotency-start-'));
  });
  afterEach(async () => {
    for (const { child, signalGroup, exit } of started.splice(0)) {
      if (child.exitCode === null && child.signalCode === null) signalGroup('SIGTERM');
      await exit();
    }
    rmSync(dataDir, { recursive: true, force: true });
  });

  function run(command: readonly string[], env: Record<string, string> = {}): Started {
    const [program = '', ...args] = command;
    const child = spawn(program, args, {
      cwd: ROOT,
      env: {
        ...process.env,
        NODE_ENV: '',
        DATABASE_URL: '',
        DATA_DIR: dataDir,
        PORT: '0',
        PROVIDER_PORT: '0',
        PAYMENT_PROVIDER_URL: '',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const exited = once(child, 'close');
    const process_: Started = {
      child,
      output: () => output,
      url: async () =>
        until(
          `${command.join(' ')} listens`,
          () => {
            if (child.exitCode !== null) throw new Error(`it ended:\n${output}`);
            return /listening on (http:\S+)/.exec(output)?.[1];
          },
          50_000,
        ),
      signalGroup: (signal) => void process.kill(-(child.pid as number), signal),
      exit: async () => {
        const [code, signal] = (await exited) as [number | null, NodeJS.Signals | null];
        return code ?? (signal as NodeJS.Signals);
      },
    };
    started.push(process_);
    return process_;
  }
  const npmStart = (env?: Record<string, string>): Started => run(['npm', 'start'], env);
  /** What `npm start` runs once everything is built. */
  const main = (env?: Record<string, string>): Started => run(['node', 'dist/apps/cart/main.js'], env);

  const add = (url: string, key: string, headers: Record<string, string> = {}): Promise<Answer> =>
    send(`${url}/carts/alice/items`, {
      headers: { 'idempotency-key': key, ...headers },
      body: { itemId: 'book', quantity: 2 },
    });
  const serverPid = (): number => {
    const text = readFileSync(join(clusterDir(), 'postmaster.pid'), 'utf8');
    return Number(text.split('\n')[0]);
  };
  let printed = '';
  const clusterDir = (): string => /data in (\S+)/.exec(printed)?.[1] ?? 'no cluster was named';
  const isAlive = (pid: number): boolean => {
    try {
      // A zombie waits for its parent, and is no server any more.
      return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    } catch {
      return false;
    }
  };

  it('says what runs where, with a curl line that works, and keeps its data over restarts', async () => {
    const first = npmStart();
    const url = await first.url();
    await until('the curl line', () => first.output().includes('-d '));
    printed = first.output();
    expect(printed).toMatch(/embedded PostgreSQL 18 on 127\.0\.0\.1:\d+, data in /);
    const curl = /^ {2}(curl -i [\s\S]+)$/m.exec(printed)?.[1] ?? '';
    const line = run(['sh', '-c', curl.trim()]);
    await line.exit();
    expect(line.output()).toContain('HTTP/1.1 201 Created');

    const key = randomUUID();
    const added = await add(url, key);
    expect(added.status).toBe(201);
    const server = serverPid();
    first.child.kill('SIGTERM');
    await first.exit();
    await until('the database is stopped', () => !isAlive(server));

    const second = main();
    const replay = await add(await second.url(), key);
    expect([replay.status, replay.text]).toEqual([200, added.text]);
  }, 90_000);

  it.each(['SIGINT', 'SIGKILL'] as const)(
    'starts the payment provider beside it, which ends with it on %s',
    async (signal) => {
      const npm = npmStart();
      const url = await npm.url();
      const provider = await until(
        'the provider is named',
        () => /payments {2}(http:\S+)/.exec(npm.output())?.[1],
      );
      await add(url, randomUUID());
      const checkout = await send(`${url}/carts/alice/checkout`, {
        headers: { 'idempotency-key': randomUUID() },
      });
      const charges = (await send(`${provider}/charges`, { method: 'GET' })).json<unknown[]>();
      expect(charges).toHaveLength(1);
      expect(checkout.status).toBe(201);
      npm.signalGroup(signal);
      await npm.exit();
      await until('the provider is gone', async () =>
        send(`${provider}/health`, { method: 'GET' }).then(
          () => false,
          () => true,
        ),
      );
    },
    90_000,
  );

  it('says so when the port of the payment provider is taken, and starts nothing', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as net.AddressInfo;
    const npm = npmStart({ PROVIDER_PORT: String(port) });
    expect(await npm.exit()).not.toBe(0);
    expect(npm.output()).toContain(`PROVIDER_PORT is ${port}: that port of 127.0.0.1 is taken`);
    expect(npm.output()).not.toContain('listening on');
    taken.close();
  }, 60_000);

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'answers what is in flight, then ends with its database, on %s to the group',
    async (signal) => {
      const cart = main();
      const url = await cart.url();
      await until('the data directory is named', () => cart.output().includes('data in '));
      printed = cart.output();
      const server = serverPid();
      const held = add(url, randomUUID(), { 'x-demo-delay-ms': '1000' });
      const database = new pg.Client(readFileSync(join(dataDir, 'url'), 'utf8').trim());
      await database.connect();
      await until('the handler has written', async () => {
        const { rows } = await database.query(
          `SELECT FROM pg_locks WHERE relation = 'cart_items'::regclass AND mode = 'RowExclusiveLock'`,
        );
        return rows.length > 0;
      });
      await database.end();
      cart.signalGroup(signal);
      expect((await held).status).toBe(201);
      expect(await cart.exit()).toBe(0);
      expect(isAlive(server)).toBe(false);
    },
    60_000,
  );

  it('leaves no database behind when it is killed, and starts again', async () => {
    const cart = main();
    const key = randomUUID();
    const url = await cart.url();
    await until('the data directory is named', () => cart.output().includes('data in '));
    printed = cart.output();
    const added = await add(url, key);
    const server = serverPid();
    cart.child.kill('SIGKILL');
    await cart.exit();
    // Before the next start, which would stop what it finds.
    await until('the database is stopped', () => !isAlive(server));
    const again = main();
    const replay = await add(await again.url(), key);
    expect([added.status, replay.status, replay.text]).toEqual([201, 200, added.text]);
  }, 60_000);

  it('says so when one is running already, and leaves that one alone', async () => {
    const first = main();
    const url = await first.url();
    const second = main();
    expect(await second.exit()).toBe(1);
    expect(second.output()).toMatch(/already|in use/i);
    expect(second.output()).toContain(String(first.child.pid));
    expect(second.output()).not.toMatch(/\n {4}at /);
    expect((await add(url, randomUUID())).status).toBe(201);
  }, 60_000);

  it('says so in one line when the port is taken, and leaves no database behind', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as net.AddressInfo;
    const cart = main({ PORT: String(port) });
    expect(await cart.exit()).toBe(1);
    expect(cart.output()).toContain(`PORT is ${port}: that port of 127.0.0.1 is taken`);
    expect(cart.output()).not.toMatch(/\n {4}at /);
    taken.close();
    const database = new pg.Client(readFileSync(join(dataDir, 'url'), 'utf8').trim());
    await expect(database.connect()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  }, 60_000);

  it.each([
    [
      { DATABASE_URL: 'mysql://root@localhost/cart' },
      'DATABASE_URL is "mysql://***@localhost/cart": use postgres://',
    ],
    [
      { DATABASE_URL: 'postgres://u:secret@127.0.0.1:1/none' },
      'DATABASE_URL: no connection to 127.0.0.1:1/none',
    ],
    [{ PORT: 'http' }, 'PORT is "http": use a whole number from 0 to 65535'],
    [{ HTTP_PLATFORM: 'koa' }, 'HTTP_PLATFORM is "koa": use express or fastify'],
  ])('refuses %o in its own words', async (env, words) => {
    const cart = main(env);
    expect(await cart.exit()).toBe(1);
    expect(cart.output()).toContain(words);
    expect(cart.output()).not.toMatch(/\n {4}at |secret/);
  });

  it('starts several instances at once on one empty database of DATABASE_URL', async () => {
    const database = await createDatabase();
    const carts = await Promise.all(
      Array.from({ length: 4 }, () => startCart({ databaseUrl: database.url })),
    );
    try {
      const key = randomUUID();
      const answers: Answer[] = [];
      for (const { url } of carts) answers.push(await add(url, key));
      expect(await database.rows('SELECT quantity FROM cart_items')).toEqual([{ quantity: 2 }]);
      expect(answers.map(({ status }) => status)).toEqual([201, 200, 200, 200]);
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    } finally {
      await Promise.all(carts.map((cart) => cart.end()));
      await database.drop();
    }
  }, 60_000);
});
