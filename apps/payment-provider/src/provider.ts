import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { amountOf, keyOf } from './charge-request.js';
import { NO_FAULTS, parseFaults } from './faults.js';
import { type Answer, answer, readJson } from './http.js';
import { Ledger } from './ledger.js';
import { Refusal, quote } from './refusal.js';

export interface ProviderOptions {
  /** Keeps the charges over restarts; without it they end with the provider. */
  readonly ledgerFile?: string | undefined;
  /** Draws for the fault rates: from 0, below 1. */
  readonly random?: () => number;
}

export interface Provider {
  /** Answers once it listens. */
  readonly server: Server;
  /** Stops at once: cuts every connection, and charges nothing any more. */
  close(): Promise<void>;
}

/** Ends the connection without an answer. */
const DROP = Symbol('drop');

type Handler = (request: IncomingMessage, url: URL) => Promise<Answer | typeof DROP> | Answer;

/** @throws LedgerError when the ledger file cannot be used. */
export function createProvider({ ledgerFile, random = Math.random }: ProviderOptions = {}): Provider {
  const ledger = new Ledger(ledgerFile);
  const stopping = new AbortController();
  let faults = NO_FAULTS;
  let closed: Promise<void> | undefined;

  async function charge(request: IncomingMessage): Promise<Answer | typeof DROP> {
    const key = keyOf(request);
    ledger.countCall(key);
    const { delayMs, failBefore, failAfter, dropAfter } = faults;
    const amount = amountOf(await readJson(request));
    // From here on it makes no difference whether the caller still waits for the answer.
    if (delayMs > 0) await wait(delayMs, undefined, { signal: stopping.signal });
    stopping.signal.throwIfAborted();

    if (random() < failBefore) return failed('Injected fault: failed before charging was decided.');
    const outcome = ledger.charge(key, amount);
    if (random() < failAfter) return failed('Injected fault: failed after charging was decided.');
    if (random() < dropAfter) return DROP;
    switch (outcome.kind) {
      case 'charged':
        return { status: 201, body: outcome.charge };
      case 'replayed':
        return { status: 200, body: outcome.charge };
      case 'mismatch':
        throw new Refusal(
          422,
          `The key ${quote(key)} has charged ${outcome.charge.amount}; received the amount ${amount}.`,
        );
    }
  }

  function list(_request: IncomingMessage, { searchParams }: URL): Answer {
    const key = searchParams.get('key');
    return { status: 200, body: ledger.entries().filter((entry) => key === null || entry.key === key) };
  }

  async function setFaults(request: IncomingMessage): Promise<Answer> {
    faults = parseFaults(await readJson(request));
    return { status: 200, body: faults };
  }

  const routes = new Map<string, Readonly<Record<string, Handler>>>([
    ['/charges', { GET: list, POST: charge }],
    ['/faults', { GET: () => ({ status: 200, body: faults }), PUT: setFaults }],
    ['/health', { GET: () => ({ status: 200, body: { status: 'ok' } }) }],
  ]);

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = urlOf(request);
      const handlers = routes.get(url.pathname);
      if (!handlers) throw new Refusal(404, `There is no ${quote(url.pathname)}.`);
      const handler = handlers[request.method ?? ''];
      if (!handler) {
        const allow = Object.keys(handlers).join(', ');
        throw new Refusal(405, `${url.pathname} takes ${allow}; received ${request.method}.`, { allow });
      }
      const outcome = await handler(request, url);
      if (outcome === DROP) response.destroy();
      else answer(response, outcome);
    } catch (error) {
      if (error instanceof Refusal) {
        answer(response, { status: error.status, body: { error: error.message }, headers: error.headers });
      } else if (stopping.signal.aborted || !request.complete) {
        response.destroy();
      } else {
        console.error(error);
        answer(response, failed('The provider failed; it has said more where it runs.'));
      }
    }
  }

  const server = createServer((request, response) => void handle(request, response));

  return {
    server,
    close: () => {
      closed ??= new Promise((resolve) => {
        stopping.abort();
        server.close(() => {
          ledger.close();
          resolve();
        });
        server.closeAllConnections();
      });
      return closed;
    },
  };
}

function failed(error: string): Answer {
  return { status: 500, body: { error } };
}

function urlOf({ url = '/' }: IncomingMessage): URL {
  const base = 'http://provider';
  if (!URL.canParse(url, base)) throw new Refusal(404, `There is no ${quote(url)}.`);
  return new URL(url, base);
}
