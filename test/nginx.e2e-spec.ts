import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startCart } from './support/cart-process.js';
import { createDatabase } from './support/database.js';
import { send, statuses } from './support/http.js';
import { describeWith, freePorts } from './support/servers.js';
import { ACCESS_LOG, startNginx, type NginxServer } from './support/topology.js';
import { until } from './support/until.js';

interface Received {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

type Behaviour = (response: ServerResponse) => void;

/** Reads the whole request, and what it does then stands for what an instance of the cart may do. */
const BEHAVIOURS = {
  answers: (response) => void response.writeHead(201).end('created'),
  'hangs up': (response) => void response.socket?.destroy(),
  'is stuck': () => undefined,
  'answers 503': (response) =>
    void response
      .writeHead(503, { 'Retry-After': '7', 'Content-Type': 'application/problem+json' })
      .end('{"code":"IDEMPOTENCY_STORE_UNAVAILABLE"}'),
  'answers 502': (response) => void response.writeHead(502).end('no provider'),
  'answers 500': (response) => void response.writeHead(500).end('a bug'),
  'answers 409': (response) => void response.writeHead(409).end('in flight'),
} satisfies Record<string, Behaviour>;

describeWith(['nginx'], 'nginx in front of several instances', () => {
  let nginx: NginxServer | undefined;
  let received: Received[];
  let ends: (() => void)[];

  beforeEach(() => {
    received = [];
    ends = [];
  });
  afterEach(async () => {
    await nginx?.stop();
    nginx = undefined;
    for (const end of ends) end();
  });

  async function instance(behaviour: keyof typeof BEHAVIOURS): Promise<string> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { method, url, headers } = request;
        received.push({ method, url, headers, body: Buffer.concat(chunks) });
        BEHAVIOURS[behaviour](response);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ends.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** nginx, whose first request goes to the first of them. */
  async function before(...behaviours: (keyof typeof BEHAVIOURS)[]): Promise<string> {
    const instances: string[] = [];
    for (const behaviour of behaviours) instances.push(await instance(behaviour));
    nginx = await startNginx({ instances, answerTimeout: '500ms' });
    return nginx.url;
  }
  const keyed = { 'idempotency-key': 'k' };

  it.each(['hangs up', 'is stuck', 'answers 503', 'answers 502'] as const)(
    'sends a POST with a key to the next instance when one %s',
    async (behaviour) => {
      const url = await before(behaviour, 'answers');
      const answer = await send(`${url}/carts/a/items?x=%2F`, { headers: keyed, body: { itemId: 'book' } });
      expect(received).toHaveLength(2);
      expect(received[1]?.body).toEqual(received[0]?.body);
      expect(received.map(({ method, url: target }) => `${method} ${target}`)).toEqual(
        Array(2).fill('POST /carts/a/items?x=%2F'),
      );
      expect([answer.status, answer.text]).toEqual([201, 'created']);
    },
  );

  it.each([
    ['hangs up', 502],
    ['is stuck', 504],
    ['answers 503', 503],
    ['answers 502', 502],
  ] as const)('sends a POST without a key once, when an instance %s', async (behaviour, status) => {
    const url = await before(behaviour, 'answers');
    const answer = await send(`${url}/carts/a/items`, { body: { itemId: 'book' } });
    expect(received).toHaveLength(1);
    expect(answer.status).toBe(status);
  });

  it('takes an empty key for none', async () => {
    const url = await before('hangs up', 'answers');
    const answer = await send(url, { headers: { 'idempotency-key': '' }, body: {} });
    expect(received).toHaveLength(1);
    expect(answer.status).toBe(502);
  });

  it('sends a PUT without a key to the next instance when one hangs up', async () => {
    const url = await before('hangs up', 'answers');
    const answer = await send(url, { method: 'PUT', body: {} });
    expect(received).toHaveLength(2);
    expect(answer.status).toBe(201);
  });

  it.each(['answers 500', 'answers 409'] as const)(
    'gives a decided answer to its client: %s',
    async (behaviour) => {
      const url = await before(behaviour, 'answers');
      const answer = await send(url, { headers: keyed, body: {} });
      expect(received).toHaveLength(1);
      expect(`answers ${answer.status}`).toBe(behaviour);
    },
  );

  it('gives its client the own 503 of an instance when all answer so, however often', async () => {
    const url = await before('answers 503', 'answers 503');
    for (let round = 1; round <= 5; round++) {
      const answer = await send(url, { headers: keyed, body: {} });
      expect(received).toHaveLength(2 * round);
      expect([answer.status, answer.headers['retry-after'], answer.text]).toEqual([
        503,
        '7',
        '{"code":"IDEMPOTENCY_STORE_UNAVAILABLE"}',
      ]);
    }
  });

  it('tries three instances at most', async () => {
    const url = await before('hangs up', 'hangs up', 'hangs up', 'answers');
    const answer = await send(url, { headers: keyed, body: {} });
    expect(received).toHaveLength(3);
    expect(answer.status).toBe(502);
  });

  it('passes a request over an instance that is not there, with a key or without', async () => {
    const [port] = await freePorts(1);
    const live = await instance('answers');
    nginx = await startNginx({ instances: [`http://127.0.0.1:${port}`, live] });
    const { url } = nginx;
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) => send(url, { headers: index % 2 ? keyed : {}, body: {} })),
    );
    expect(received).toHaveLength(10);
    expect(statuses(answers)).toEqual({ 201: 10 });
  });

  it.each([keyed, {}])('hands on what the client sent: %o', async (headers) => {
    const url = await before('answers');
    const body = Buffer.alloc(300_000, 'x');
    await send(`${url}/a%2Fb//c?q=%20&q=2`, { headers, body });
    expect(received).toHaveLength(1);
    expect(received[0]?.body.equals(body)).toBe(true);
    expect(received[0]).toMatchObject({
      method: 'POST',
      url: '/a%2Fb//c?q=%20&q=2',
      headers: { host: new URL(url).host, 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http' },
    });
    expect(received[0]?.headers['idempotency-key']).toBe(headers === keyed ? 'k' : undefined);
  });

  it('logs where a request went, and no key', async () => {
    const url = await before('hangs up', 'answers');
    const key = randomUUID();
    await send(`${url}/orders`, { headers: { 'idempotency-key': key }, body: {} });
    const read = (): string => readFileSync(join((nginx as NginxServer).folder, ACCESS_LOG), 'utf8');
    const log = await until('the line is written', () => read().includes('/orders') && read());
    expect(log).toMatch(/^POST \/orders 201 [\d.]+ 127\.0\.0\.1:\d+, 127\.0\.0\.1:\d+ 502, 201$/m);
    expect(log).not.toContain(key);
  });

  describe('of the cart', () => {
    it.each(['handler-returned', 'commit-sent'] as const)(
      'answers a client whose instance is killed (%s): one request, one effect',
      async (stopAt) => {
        const database = await createDatabase();
        // PostgreSQL may hear of the death after nginx has: then the second try waits for that, in place of a 409.
        const env = { ON_IN_FLIGHT: 'wait' };
        const [other, victim] = await Promise.all([
          startCart({ databaseUrl: database.url, env }),
          startCart({ databaseUrl: database.url, env, stopAt }),
        ]);
        try {
          nginx = await startNginx({ instances: [victim.url, other.url] });
          const answering = send(`${nginx.url}/carts/alice/items`, {
            headers: { 'idempotency-key': randomUUID() },
            body: { itemId: 'book', quantity: 2 },
          });
          await victim.reached();
          await victim.end('SIGKILL');
          const answer = await answering;
          expect(await database.rows('SELECT quantity FROM cart_items')).toEqual([{ quantity: 2 }]);
          expect([200, 201]).toContain(answer.status);
        } finally {
          await Promise.all([victim.end('SIGKILL'), other.end()]);
          await database.drop();
        }
      },
    );
  });
});
