import http from 'node:http';
import type { Invoke } from '../history/event.js';
import type { Instance } from '../world/instance.js';
import type { HistoryLog } from './history-log.js';
import { outcomeOf, type Outcome } from './outcome.js';
import type { Wish } from './subject.js';

/** Longer than an attempt may take, and than nginx waits for one. */
const PATIENCE_MS = 6_000;

export interface CallOptions {
  /** Another payload than that of the wish. */
  readonly payload?: string;
  /** Past the balancer, to this one. */
  readonly instance?: Pick<Instance, 'index' | 'url'>;
  readonly isSweep?: boolean;
}

/** Sends requests, and writes down what it asked and what it heard. */
export class Caller {
  readonly #agent: http.Agent;

  constructor(
    private readonly url: string,
    private readonly log: HistoryLog,
    sockets: number,
  ) {
    this.#agent = new http.Agent({ keepAlive: true, maxSockets: sockets });
  }

  async call(
    wish: Wish,
    { payload = wish.payload, instance, isSweep = false }: CallOptions = {},
  ): Promise<Outcome> {
    const { scope, operation, key, mode, path, behaviour } = wish;
    const body = JSON.stringify({ payload, behaviour });
    const url = instance?.url ?? this.url;
    const directTo = instance === undefined ? {} : { directTo: String(instance.index) };
    return this.#tell({ scope, operation, key, mode, payload, isSweep, ...directTo }, () =>
      this.#send(url + path, 'POST', { 'content-type': 'application/json', 'idempotency-key': key }, body),
    );
  }

  /** A request of a route that nothing protects. */
  async passBy(scope: string, number: number): Promise<Outcome> {
    const operation = 'GET /ledger/:owner/bystander';
    const of = {
      scope,
      operation,
      key: String(number),
      mode: 'bystander' as const,
      payload: '',
      isSweep: false,
    };
    return this.#tell(of, () => this.#send(`${this.url}/ledger/${scope}/bystander`, 'GET', {}, ''));
  }

  close(): void {
    this.#agent.destroy();
  }

  async #tell(of: Omit<Invoke, 'kind' | 'call' | 'atMs'>, send: () => Promise<Outcome>): Promise<Outcome> {
    const call = this.log.nextCall();
    this.log.tell({ kind: 'invoke', call, atMs: this.log.nowMs, ...of });
    const outcome = await send();
    this.log.tell({ call, atMs: this.log.nowMs, ...outcome });
    return outcome;
  }

  #send(url: string, method: string, headers: Record<string, string>, body: string): Promise<Outcome> {
    return new Promise((resolve) => {
      const request = http.request(url, { method, agent: this.#agent, headers });
      const timer = setTimeout(
        () => request.destroy(new Error(`no answer within ${PATIENCE_MS} ms`)),
        PATIENCE_MS,
      );
      const end = (outcome: Outcome): void => {
        clearTimeout(timer);
        resolve(outcome);
      };
      const fail = (error: Error): void => end({ kind: 'unknown', cause: error.message });
      request.on('error', fail);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', fail);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          end(outcomeOf(response.statusCode ?? 0, response.headers, text));
        });
      });
      request.end(body);
    });
  }
}
