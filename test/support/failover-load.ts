import { randomUUID } from 'node:crypto';
import { type Answer, send } from './http.js';

/** What clients had sent under one key, and every final answer that they got. */
export interface Sent {
  readonly key: string;
  readonly kind: 'item' | 'checkout';
  readonly user: string;
  /** Charged for a checkout: unique in a run, so that the provider's ledger tells whose it is. */
  readonly quantity: number;
  /** 200 or 201, as soon as there is one. */
  answered?: { readonly text: string; readonly at: number };
}

export interface FailoverLoad {
  readonly sent: readonly Sent[];
  /** Answers by status, and `connection` for those that never came. */
  readonly counts: Record<string, number>;
  /** Answers that no client should get. */
  readonly odd: string[];
  /** Every client finishes its current key; then stops. */
  stop(): Promise<void>;
}

/** Longer than a request takes until it is answered for good, failover and all: one that nobody decides any more would be asked for ever. */
const SETTLED_WITHIN_MS = 30_000;

/** What tells a client to come again with the same key: in flight, and every failure of the server's. */
const isAgain = (status: number): boolean => status === 409 || status >= 500;

/**
 * Clients that each do one thing after another, a key each, at any of the instances in turn. They repeat a request under its key
 * until it is answered for good, whatever happens: that is their half of the promise.
 */
export function startFailoverLoad(
  url: () => string,
  { items, checkouts }: { readonly items: number; readonly checkouts: number },
  numberOf: () => number,
): FailoverLoad {
  const sent: Sent[] = [];
  const counts: Record<string, number> = {};
  const odd: string[] = [];
  const stopping = new AbortController();

  const insist = async (
    path: string,
    headers: Record<string, string>,
    body?: unknown,
    method = 'POST',
  ): Promise<Answer | undefined> => {
    const began = performance.now();
    for (;;) {
      const request = send(`${url()}${path}`, { method, headers, body, timeoutMs: SETTLED_WITHIN_MS });
      const answer = await request.catch(() => undefined);
      const status = answer?.status ?? 'connection';
      counts[status] = (counts[status] ?? 0) + 1;
      if (answer && (answer.status === 200 || answer.status === 201)) return answer;
      // A handler of lease mode whose phase fails with its connection answers 500: it is not stored, and goes on when repeated.
      const isLate = performance.now() - began > SETTLED_WITHIN_MS;
      if (isLate || (answer && !isAgain(answer.status))) {
        odd.push(`${path} ${status} ${answer?.text ?? ''}`);
        return undefined;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const one = async (kind: Sent['kind']): Promise<void> => {
    const key = randomUUID();
    const entry: Sent = { key, kind, user: `user-${key}`, quantity: numberOf() };
    if (kind === 'checkout') {
      await insist(`/carts/${entry.user}/items/book`, {}, { quantity: entry.quantity }, 'PUT');
    }
    sent.push(entry);
    const headers = { 'idempotency-key': key };
    const answer =
      kind === 'item'
        ? await insist(`/carts/${entry.user}/items`, headers, { itemId: 'book', quantity: 3 })
        : await insist(`/carts/${entry.user}/checkout`, headers);
    if (answer) entry.answered = { text: answer.text, at: performance.now() };
  };
  const client = async (kind: Sent['kind']): Promise<void> => {
    while (!stopping.signal.aborted) await one(kind);
  };
  const clients = [
    ...Array.from({ length: items }, () => client('item')),
    ...Array.from({ length: checkouts }, () => client('checkout')),
  ];
  // A client that fails is reported by stop(); until then nobody awaits it.
  for (const running of clients) running.catch(() => stopping.abort());
  return {
    sent,
    counts,
    odd,
    stop: async () => {
      stopping.abort();
      await Promise.all(clients);
    },
  };
}
