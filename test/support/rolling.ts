import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect } from 'vitest';
import { type CartProcess, startCart } from './cart-process.js';
import type { TestDatabase } from './database.js';
import { type Answer, send } from './http.js';
import { isInFlight } from './in-flight.js';
import { LOOPBACK, startNginx } from './topology.js';

/** How long what is held in flight takes: longer than it takes to see it there. */
export const HELD_MS = 1_000;

/** Instances of the cart behind nginx, each of which can be replaced on its port while the others work. */
export interface RollingFleet {
  readonly url: string;
  /** Those that run, by their places. */
  readonly carts: readonly CartProcess[];
  /**
   * Stops an instance as a deployment does, in the middle of a request, and starts one of another version in its place, or of the
   * same. The request in flight is answered, and the process ends by itself with 0. Resolves with what it answered, when the new one
   * answers.
   */
  replace(index: number, main?: string): Promise<Added>;
  close(): Promise<void>;
}

/** An addition that was answered: 201, or 200 where nginx had to ask a second instance. */
export interface Added {
  readonly user: string;
  readonly key: string;
  readonly answer: Answer;
}

export interface RollingOptions {
  readonly database: TestDatabase;
  readonly databaseUrl?: string;
  readonly instances?: number;
  /** The version to begin with. @default that of this build */
  readonly main?: string;
}

export async function openRollingFleet(options: RollingOptions): Promise<RollingFleet> {
  const { database, databaseUrl = database.url, instances = 4 } = options;
  const ports = await lastingPorts(instances);
  const start = (port: number, main?: string): Promise<CartProcess> =>
    startCart({ databaseUrl, main, env: { PORT: String(port), CONFIRMATIONS: 'off' } });
  const carts = await Promise.all(ports.map((port) => start(port, options.main)));
  const endAll = (): Promise<unknown> => Promise.all(carts.map((cart) => cart.end('SIGKILL')));
  const nginx = await startNginx({ instances: carts.map(({ url }) => url) }).catch(async (error: unknown) => {
    await endAll();
    throw error;
  });
  return {
    url: nginx.url,
    carts,
    replace: async (index, main) => {
      const leaving = carts[index] as CartProcess;
      const [user, key] = [randomUUID(), randomUUID()];
      const answering = addOne(leaving.url, user, key, { 'x-demo-delay-ms': String(HELD_MS) });
      const [answer, exitCode] = await Promise.all([
        answering,
        isInFlight(database, key).then(() => leaving.end('SIGTERM')),
      ]);
      expect({ status: answer.status, exitCode }).toEqual({ status: 201, exitCode: 0 });
      const coming = await start(ports[index] as number, main);
      carts[index] = coming;
      const health = await send(`${coming.url}/health`, { method: 'GET' });
      expect(health.status).toBe(200);
      return { user, key, answer };
    },
    close: async () => {
      await nginx.stop();
      await endAll();
    },
  };
}

/** Puts one book into a user's cart. */
export function addOne(
  url: string,
  user: string,
  key: string,
  headers: Record<string, string> = {},
  quantity = 1,
): Promise<Answer> {
  return send(`${url}/carts/${user}/items`, {
    headers: { 'idempotency-key': key, ...headers },
    body: { itemId: 'book', quantity },
  });
}

/** Every addition has had its effect once, has a record that says so, and there is no other record. */
export async function expectAddedOnce(database: TestDatabase, added: readonly Added[]): Promise<void> {
  const wrong = await database.rows(
    `SELECT key, status, attempt, count(*)::int AS records
       FROM unnest($1::text[]) AS key LEFT JOIN idempotency_keys USING (key)
      GROUP BY key, status, attempt
     HAVING status IS DISTINCT FROM 'completed' OR attempt <> 1 OR count(*) <> 1`,
    [added.map(({ key }) => key)],
  );
  expect(wrong).toEqual([]);
  const carts = await database.rows<{ user: string; quantity: number }>(
    `SELECT user_id AS "user", quantity FROM cart_items`,
  );
  const expected = new Map<string, number>();
  for (const { user } of added) expected.set(user, (expected.get(user) ?? 0) + 1);
  expect(new Map(carts.map(({ user, quantity }) => [user, quantity]))).toEqual(expected);
  const records = await database.rows(
    'SELECT status, count(*)::int AS count FROM idempotency_keys GROUP BY status',
  );
  expect(records).toEqual([{ status: 'completed', count: added.length }]);
}

/**
 * Ports that nobody listens on. Not of those that the system gives to connections: while an instance is away, a connection could
 * get its port.
 */
async function lastingPorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries > 1_000) throw new Error('no ports are free');
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (!ports.includes(port) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, LOOPBACK);
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  await new Promise((resolve) => server.close(resolve));
  return true;
}
