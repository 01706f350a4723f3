import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type Answer, type RequestOptions, send, statuses } from '../../../test/support/http.js';
import { until } from '../../../test/support/until.js';
import type { LedgerEntry } from './ledger.js';
import { createProvider, type Provider, type ProviderOptions } from './provider.js';

interface Running extends Provider {
  readonly port: number;
  call(path: string, options?: RequestOptions): Promise<Answer>;
  charge(key: string, amount?: number): Promise<Answer>;
  setFaults(faults: object): Promise<Answer>;
  ledger(): Promise<LedgerEntry[]>;
  /** Resolves when the next request has arrived. */
  arrival(): Promise<unknown>;
}

const running: Provider[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((provider) => provider.close()));
});

async function start(options?: ProviderOptions): Promise<Running> {
  const provider = createProvider(options);
  running.push(provider);
  await once(provider.server.listen(0, '127.0.0.1'), 'listening');
  const { port } = provider.server.address() as AddressInfo;
  const call: Running['call'] = (path, request) => send(`http://127.0.0.1:${port}${path}`, request);
  return {
    ...provider,
    port,
    call,
    charge: (key, amount = 100) =>
      call('/charges', { headers: { 'idempotency-key': key }, body: { amount } }),
    setFaults: (body) => call('/faults', { method: 'PUT', body }),
    ledger: async () => (await call('/charges', { method: 'GET' })).json<LedgerEntry[]>(),
    arrival: () => once(provider.server, 'request'),
  };
}

/** Charges 100 for the key `a`, as bytes on the wire. */
const CHARGE_A =
  'POST /charges HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\r\nContent-Length: 14\r\n\r\n{"amount":100}';

const errorOf = (answer: Answer): string => answer.json<{ error: string }>().error;

describe('POST /charges', () => {
  it('charges, and answers 201 with the charge', async () => {
    const { charge } = await start();
    const answer = await charge('order-1', 2500);
    expect(answer.status).toBe(201);
    expect(answer.headers['content-type']).toBe('application/json');
    expect(answer.json()).toEqual({
      chargeId: expect.any(String),
      key: 'order-1',
      amount: 2500,
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
    });
  });

  it('answers the same key 200 with the same body, and charges nothing', async () => {
    const { charge, ledger } = await start();
    const first = await charge('order-1');
    const replay = await charge('order-1');
    expect([replay.status, replay.text]).toEqual([200, first.text]);
    expect(await ledger()).toEqual([{ ...first.json(), calls: 2 }]);
  });

  it('answers the same key with another amount 422, and charges nothing', async () => {
    const { charge, ledger } = await start();
    await charge('order-1', 100);
    const answer = await charge('order-1', 101);
    expect(answer.status).toBe(422);
    expect(errorOf(answer)).toBe('The key "order-1" has charged 100; received the amount 101.');
    expect(await ledger()).toMatchObject([{ amount: 100, calls: 2 }]);
  });

  it.each([0, 20])(
    'charges once for 50 concurrent calls of one key, with a delay of %i ms',
    async (delayMs) => {
      const { charge, ledger, setFaults } = await start();
      await setFaults({ delayMs });
      const answers = await Promise.all(Array.from({ length: 50 }, () => charge('order-1')));
      expect(statuses(answers)).toEqual({ 200: 49, 201: 1 });
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
      expect(await ledger()).toMatchObject([{ key: 'order-1', calls: 50 }]);
    },
  );

  it('takes a currency and a reference, and keeps neither', async () => {
    const { call } = await start();
    const body = { amount: 5, currency: 'EUR', reference: 'cart alice' };
    const answer = await call('/charges', { headers: { 'idempotency-key': 'k' }, body });
    expect(answer.status).toBe(201);
    expect(Object.keys(answer.json())).toEqual(['chargeId', 'key', 'amount', 'createdAt']);
  });

  it.each(['x', 'k'.repeat(255), '"quoted" ~!', randomUUID()])('takes the key %s', async (key) => {
    const { charge } = await start();
    expect((await charge(key)).json()).toMatchObject({ key });
  });

  it.each<[string, Record<string, string | string[]>, string]>([
    ['no key', {}, 'nothing'],
    ['an empty key', { 'idempotency-key': '' }, '""'],
    ['a key that is too long', { 'idempotency-key': 'k'.repeat(256) }, `"${'k'.repeat(79)}…`],
    ['a key that does not print', { 'idempotency-key': 'a\tb' }, '"a\\tb"'],
    ['a key beyond ASCII', { 'idempotency-key': 'caf\u00e9' }, '"caf\u00e9"'],
    ['two keys', { 'idempotency-key': ['a', 'b'] }, '["a","b"]'],
  ])('refuses %s', async (_what, headers, received) => {
    const { call, ledger } = await start();
    // As bytes: Node sends a head that stands in one string with its body as UTF-8.
    const answer = await call('/charges', { headers, body: Buffer.from('{"amount":5}') });
    expect(answer.status).toBe(400);
    expect(errorOf(answer)).toBe(
      `The header Idempotency-Key must be 1 to 255 printable ASCII characters; received ${received}.`,
    );
    expect(await ledger()).toEqual([]);
  });

  const amount = (received: string): string =>
    `"amount" must be a positive whole number; received ${received}.`;
  it.each<[unknown, string]>([
    [{ amount: 0 }, amount('0')],
    [{ amount: -5 }, amount('-5')],
    [{ amount: 1.5 }, amount('1.5')],
    [{ amount: '5' }, amount('"5"')],
    [{ amount: null }, amount('null')],
    ['{"amount":9007199254740993}', amount('9007199254740992')],
    [{}, amount('nothing')],
    [{ amount: 5, currency: 978 }, '"currency" must be a string; received 978.'],
    [{ amount: 5, tip: 1 }, '"tip" is unknown; known are amount, currency, reference; received 1.'],
    ['[5]', 'The body must be a JSON object; received [5].'],
    ['null', 'The body must be a JSON object; received null.'],
    ['amount=5', 'The body must be JSON; received "amount=5".'],
    [undefined, 'The body must be JSON; received "".'],
  ])('refuses the body %j, naming what was received', async (body, message) => {
    const { call, ledger } = await start();
    const answer = await call('/charges', { headers: { 'idempotency-key': 'k' }, body });
    expect([answer.status, errorOf(answer)]).toEqual([400, message]);
    expect(await ledger()).toEqual([]);
  });

  it('refuses a body that is too long', async () => {
    const { call } = await start();
    const body = { amount: 5, reference: 'r'.repeat(20_000) };
    const answer = await call('/charges', { headers: { 'idempotency-key': 'k' }, body });
    expect([answer.status, errorOf(answer)]).toEqual([
      413,
      expect.stringMatching(/at most 16384 bytes; received 20\d+\.$/),
    ]);
  });

  it('charges nothing when the connection ends within the body, and goes on', async () => {
    const { port, charge, ledger, arrival } = await start();
    const socket = net.connect(port, '127.0.0.1');
    const arrived = arrival();
    socket.write(
      'POST /charges HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 99\r\n\r\n{"amount":',
    );
    const [request] = (await arrived) as [http.IncomingMessage];
    const gone = new Promise((resolve) => request.socket.once('close', resolve));
    socket.destroy();
    await gone;
    expect(await ledger()).toEqual([]);
    expect((await charge('k')).status).toBe(201);
  });
});

describe('GET /charges', () => {
  it('lists the charges in the order they were made', async () => {
    const { charge, ledger } = await start();
    expect(await ledger()).toEqual([]);
    const made = [await charge('b', 2), await charge('10', 1), await charge('a', 3)];
    expect(await ledger()).toEqual(made.map((answer) => ({ ...answer.json(), calls: 1 })));
  });

  it('filters by key', async () => {
    const { charge, call } = await start();
    for (const key of ['a', 'b&c=1?']) await charge(key);
    const keys = async (query: string): Promise<string[]> =>
      (await call(`/charges?${query}`, { method: 'GET' })).json<LedgerEntry[]>().map(({ key }) => key);
    expect(await keys(`key=${encodeURIComponent('b&c=1?')}`)).toEqual(['b&c=1?']);
    expect(await keys('key=none')).toEqual([]);
    expect(await keys('key=')).toEqual([]);
  });

  it('counts the calls that came before the charge, and leaves out keys that were never charged', async () => {
    const { charge, call, setFaults, ledger } = await start();
    await setFaults({ failBefore: 1 });
    for (const key of ['a', 'a', 'never']) expect((await charge(key)).status).toBe(500);
    await call('/charges', { headers: { 'idempotency-key': 'a' }, body: { amount: 0 } });
    expect(await ledger()).toEqual([]);
    await setFaults({});
    await charge('a');
    expect(await ledger()).toMatchObject([{ key: 'a', calls: 4 }]);
  });
});

describe('a fault', () => {
  it('delayMs: decides about the charge only when the time is over', async () => {
    const { charge, setFaults, ledger, arrival } = await start();
    await setFaults({ delayMs: 500 });
    const began = performance.now();
    const arrived = arrival();
    const delayed = charge('a');
    await arrived;
    await setFaults({});
    expect(await ledger()).toEqual([]);
    const quick = await charge('a');
    expect(quick.status).toBe(201);
    const late = await delayed;
    expect(performance.now() - began).toBeGreaterThan(495);
    expect([late.status, late.text]).toEqual([200, quick.text]);
    expect(await ledger()).toMatchObject([{ calls: 2 }]);
  });

  it('delayMs: charges even when the caller has given up waiting', async () => {
    const { port, charge, setFaults, ledger, arrival } = await start();
    await setFaults({ delayMs: 100 });
    const arrived = arrival();
    const socket = net.connect(port, '127.0.0.1');
    socket.write(CHARGE_A);
    const [request] = (await arrived) as [http.IncomingMessage];
    await until('the body has arrived', () => request.complete);
    socket.destroy();
    await setFaults({});
    const [entry] = await until('the charge', async () => {
      const entries = await ledger();
      return entries.length > 0 && entries;
    });
    expect((await charge('a')).json()).toMatchObject({ chargeId: entry?.chargeId });
  });

  it('failBefore: answers 500 and charges nothing', async () => {
    const { charge, setFaults, ledger } = await start();
    await setFaults({ failBefore: 1, failAfter: 1, dropAfter: 1 });
    const answer = await charge('a');
    expect(answer.status).toBe(500);
    expect(errorOf(answer)).toMatch(/^Injected fault: failed before/);
    expect(await ledger()).toEqual([]);
  });

  it('failAfter: charges and answers 500, again for a replay', async () => {
    const { charge, setFaults, ledger } = await start();
    await setFaults({ failAfter: 1 });
    for (let calls = 1; calls <= 2; calls++) {
      const answer = await charge('a');
      expect(answer.status).toBe(500);
      expect(errorOf(answer)).toMatch(/^Injected fault: failed after/);
      expect(await ledger()).toMatchObject([{ key: 'a', calls }]);
    }
    await setFaults({});
    expect((await charge('a')).status).toBe(200);
  });

  it('dropAfter: charges and ends the connection without a byte, again for a replay', async () => {
    const { port, charge, setFaults, ledger } = await start();
    await setFaults({ dropAfter: 1 });
    for (let calls = 1; calls <= 2; calls++) {
      const socket = net.connect(port, '127.0.0.1');
      let received = 0;
      socket.on('data', (chunk) => (received += chunk.length));
      socket.on('error', () => undefined);
      const closed = once(socket, 'close');
      socket.write(CHARGE_A);
      await closed;
      expect(received).toBe(0);
      expect(await ledger()).toMatchObject([{ key: 'a', calls }]);
    }
    await expect(charge('a')).rejects.toMatchObject({ code: 'ECONNRESET' });
    await setFaults({});
    expect((await charge('a')).status).toBe(200);
  });

  it('strikes at its rate', async () => {
    let drawn = 0;
    const { charge, setFaults, ledger } = await start({ random: () => drawn });
    await setFaults({ failBefore: 0.2, failAfter: 0.4 });
    const answered: number[] = [];
    for (drawn of [0.1999, 0.2, 0.3999, 0.4]) answered.push((await charge(`at ${drawn}`)).status);
    expect(answered).toEqual([500, 500, 500, 201]);
    expect((await ledger()).map(({ key }) => key)).toEqual(['at 0.2', 'at 0.3999', 'at 0.4']);
  });
});

describe('/faults', () => {
  it('answers the setting in force, none at first', async () => {
    const { call, setFaults } = await start();
    const inForce = async (): Promise<unknown> => (await call('/faults', { method: 'GET' })).json();
    const none = { delayMs: 0, failBefore: 0, failAfter: 0, dropAfter: 0 };
    expect(await inForce()).toEqual(none);
    const some = { delayMs: 60_000, failBefore: 1, failAfter: 0.5 };
    expect((await setFaults(some)).json()).toEqual({ ...none, ...some });
    expect(await inForce()).toEqual({ ...none, ...some });
    // Replaced, not merged.
    expect((await setFaults({ dropAfter: 0.1 })).json()).toEqual({ ...none, dropAfter: 0.1 });
    expect(await inForce()).toEqual({ ...none, dropAfter: 0.1 });
  });

  it.each<[unknown, string]>([
    [{ delayMs: 60_001 }, '"delayMs" must be a whole number from 0 to 60000; received 60001.'],
    [{ delayMs: -1 }, '"delayMs" must be a whole number from 0 to 60000; received -1.'],
    [{ delayMs: 1.5 }, '"delayMs" must be a whole number from 0 to 60000; received 1.5.'],
    [{ failBefore: '1' }, '"failBefore" must be a number from 0 to 1; received "1".'],
    [{ failAfter: 1.1 }, '"failAfter" must be a number from 0 to 1; received 1.1.'],
    [{ dropAfter: null }, '"dropAfter" must be a number from 0 to 1; received null.'],
    [
      '{"__proto__":1}',
      '"__proto__" is unknown; known are delayMs, failBefore, failAfter, dropAfter; received 1.',
    ],
    [
      { delay: 5, failAfter: 2 },
      '"delay" is unknown; known are delayMs, failBefore, failAfter, dropAfter; received 5. ' +
        '"failAfter" must be a number from 0 to 1; received 2.',
    ],
    ['[]', 'The body must be a JSON object; received [].'],
    ['', 'The body must be JSON; received "".'],
  ])('refuses %j and leaves the setting as it was', async (body, message) => {
    const { call, setFaults } = await start();
    const before = await setFaults({ failAfter: 0.25 });
    const answer = await call('/faults', { method: 'PUT', body });
    expect([answer.status, errorOf(answer)]).toEqual([400, message]);
    expect((await call('/faults', { method: 'GET' })).text).toBe(before.text);
  });
});

describe('the provider', () => {
  it('tells that it is well', async () => {
    const { call, setFaults } = await start();
    await setFaults({ delayMs: 60_000, failBefore: 1 });
    const answer = await call('/health', { method: 'GET' });
    expect([answer.status, answer.text]).toEqual([200, '{"status":"ok"}']);
  });

  it.each([
    ['DELETE', '/charges', 405, '/charges takes GET, POST; received DELETE.'],
    ['POST', '/faults', 405, '/faults takes GET, PUT; received POST.'],
    ['GET', '/refunds', 404, 'There is no "/refunds".'],
    ['GET', '//', 404, 'There is no "//".'],
  ])('offers no %s %s', async (method, path, status, message) => {
    const { call } = await start();
    const answer = await call(path, { method });
    expect([answer.status, errorOf(answer)]).toEqual([status, message]);
  });

  it('closes at once, with a call waiting and a connection idle, and charges nothing any more', async () => {
    const provider = await start();
    const { charge, call, setFaults, arrival } = provider;
    const agent = new http.Agent({ keepAlive: true });
    await call('/health', { method: 'GET', agent });
    await setFaults({ delayMs: 60_000 });
    const arrived = arrival();
    const waiting = charge('a').catch((error: unknown) => error);
    await arrived;
    await Promise.all([provider.close(), provider.close()]);
    expect(await waiting).toMatchObject({ code: 'ECONNRESET' });
    await expect(charge('a')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    agent.destroy();
  });
});
