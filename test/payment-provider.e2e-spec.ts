import { once } from 'node:events';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Answer, send } from './support/http.js';
import { type ProviderProcess, startProvider } from './support/provider-process.js';

interface Entry {
  readonly key: string;
  readonly chargeId: string;
}

describe('the payment provider', () => {
  let directory: string;
  let ledger: string;
  const started: ProviderProcess[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'provider-'));
    ledger = join(directory, 'charges.jsonl');
  });
  afterEach(async () => {
    for (const provider of started.splice(0)) {
      provider.kill('SIGKILL');
      await provider.exit();
    }
    rmSync(directory, { recursive: true, force: true });
  });

  function start(env?: Record<string, string>): ProviderProcess {
    const provider = startProvider(env);
    started.push(provider);
    return provider;
  }
  const charge = (url: string, key: string): Promise<Answer> =>
    send(`${url}/charges`, { headers: { 'idempotency-key': key }, body: { amount: 100 } });
  const entries = async (url: string): Promise<Entry[]> =>
    (await send(`${url}/charges`, { method: 'GET' })).json<Entry[]>();

  it('says where it listens, and answers there', async () => {
    const provider = start();
    const url = await provider.url();
    expect(provider.output()).toBe(`payment provider listening on ${url}\n`);
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect((await send(`${url}/health`, { method: 'GET' })).status).toBe(200);
  });

  it('forgets no charge that it has told of when it is killed in the midst of calls', async () => {
    const keys = Array.from({ length: 100 }, (_, index) => `key-${index}`);
    const first = start({ PROVIDER_LEDGER: ledger });
    const url = await first.url();
    const told = new Map<string, string>();
    await Promise.all(
      keys.map(async (key) => {
        const answer = await charge(url, key).catch(() => undefined);
        if (answer) told.set(key, answer.text);
        if (told.size === 10) first.kill('SIGKILL');
      }),
    );
    expect(await first.exit()).toBe('SIGKILL');
    expect(told.size).toBeGreaterThanOrEqual(10);

    // As though the kill had come within the writing of a line.
    appendFileSync(ledger, '{"chargeId":"ch_torn","key":"to');
    const second = start({ PROVIDER_LEDGER: ledger });
    const again = await second.url();
    const kept = await entries(again);
    expect(kept.map(({ key }) => key)).toEqual(expect.arrayContaining([...told.keys()]));
    for (const key of keys) {
      const answer = await charge(again, key);
      expect(answer.status).toBe(kept.some((entry) => entry.key === key) ? 200 : 201);
      if (told.has(key)) expect(answer.text).toBe(told.get(key));
    }
    const charged = (await entries(again)).map((entry) => entry.key);
    expect(charged.toSorted()).toEqual(keys.toSorted());
    second.kill('SIGTERM');
    expect(await second.exit()).toBe(0);

    const third = await start({ PROVIDER_LEDGER: ledger }).url();
    expect((await entries(third)).map((entry) => entry.key)).toEqual(charged);
  });

  it('forgets its charges with its process when it has no ledger file', async () => {
    const first = start();
    await charge(await first.url(), 'a');
    first.kill('SIGTERM');
    await first.exit();
    expect(await entries(await start().url())).toEqual([]);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)(
    'ends at once on %s, with an idle connection and a call that waits',
    async (signal) => {
      const provider = start();
      const url = await provider.url();
      const agent = new http.Agent({ keepAlive: true });
      await send(`${url}/faults`, { method: 'PUT', body: { delayMs: 60_000 }, agent });
      const waiting = http.request(`${url}/charges`, {
        method: 'POST',
        // The server says that it has read the head: from then on the call is in flight.
        headers: { 'idempotency-key': 'a', expect: '100-continue' },
      });
      const cut = once(waiting, 'response').catch((error: unknown) => error);
      const arrived = once(waiting, 'continue');
      waiting.flushHeaders();
      await arrived;
      waiting.end('{"amount":100}');
      provider.kill(signal);
      const began = performance.now();
      expect(await provider.exit()).toBe(0);
      expect(performance.now() - began).toBeLessThan(2_000);
      expect(await cut).toMatchObject({ code: 'ECONNRESET' });
      agent.destroy();
    },
  );

  it('refuses a port that is taken', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const provider = start({ PROVIDER_PORT: String(port) });
    expect(await provider.exit()).toBe(1);
    expect(provider.output()).toBe(
      `PROVIDER_PORT is ${port}: that port of 127.0.0.1 is taken. ` +
        'Stop what listens there, or use another: PROVIDER_PORT=3002 npm run start:provider\n',
    );
    taken.close();
  });

  it.each([
    [{ PROVIDER_PORT: 'http' }, 'PROVIDER_PORT is "http": use a whole number from 0 to 65535.'],
    [
      { PROVIDER_HOST: 'http://localhost' },
      'PROVIDER_HOST is "http://localhost": use an address to listen on, as 127.0.0.1 or 0.0.0.0.',
    ],
    [
      { PROVIDER_HOST: '203.0.113.9' },
      'PROVIDER_HOST is "203.0.113.9": this machine has no such address. Use 127.0.0.1 or 0.0.0.0.',
    ],
  ])('refuses %o in one line, and exits 1', async (env, line) => {
    const provider = start(env);
    expect(await provider.exit()).toBe(1);
    expect(provider.output()).toBe(`${line}\n`);
  });

  it('refuses a ledger file that it cannot use, and leaves it as it is', async () => {
    const provider = start({ PROVIDER_LEDGER: directory });
    expect(await provider.exit()).toBe(1);
    expect(provider.output()).toMatch(/^PROVIDER_LEDGER is "[^"]+": EISDIR.*\. Use a file .*\n$/);

    writeFileSync(ledger, 'dear diary\n');
    const other = start({ PROVIDER_LEDGER: ledger });
    expect(await other.exit()).toBe(1);
    expect(other.output()).toMatch(/^PROVIDER_LEDGER is "[^"]+": its line 1 is no charge\. Use a file .*\n$/);
  });
});
