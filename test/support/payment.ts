import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { send } from './http.js';
import { startProvider } from './provider-process.js';

/** What goes wrong on purpose; what is not named does not. */
export interface Faults {
  readonly delayMs?: number;
  readonly failBefore?: number;
  readonly failAfter?: number;
  readonly dropAfter?: number;
}

/** A charge as the provider lists it. */
export interface Charge {
  readonly chargeId: string;
  readonly key: string;
  readonly amount: number;
  readonly calls: number;
}

/** The payment provider in a process of its own, with its controls. */
export interface Payment {
  readonly url: string;
  /** From now on; `{}` ends all faults. */
  setFaults(faults: Faults): Promise<void>;
  charges(): Promise<Charge[]>;
  close(): Promise<void>;
}

export async function openPayment(): Promise<Payment> {
  const provider = startProvider();
  const url = await provider.url();
  return {
    url,
    setFaults: async (faults) => {
      const answer = await send(`${url}/faults`, { method: 'PUT', body: faults });
      if (answer.status !== 200) throw new Error(answer.text);
    },
    charges: async () => (await send(`${url}/charges`, { method: 'GET' })).json<Charge[]>(),
    close: async () => {
      provider.kill('SIGTERM');
      await provider.exit();
    },
  };
}

/** A provider that gives one answer to everything, and notes which keys it was asked with. */
export interface StubbornProvider {
  readonly url: string;
  readonly keys: readonly string[];
  close(): Promise<void>;
}

export async function startStubbornProvider(status: number, body: unknown = {}): Promise<StubbornProvider> {
  const keys: string[] = [];
  const server = createServer((request, response) => {
    keys.push(String(request.headers['idempotency-key']));
    request.resume();
    response.writeHead(status, { 'content-type': 'application/json', location: '/elsewhere' });
    response.end(JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    keys,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
