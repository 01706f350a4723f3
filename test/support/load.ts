import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { expect } from 'vitest';
import type { Fleet } from './fleet.js';
import { type Answer, send } from './http.js';
import { until } from './until.js';

/** How often each key is sent: half of it together, as double clicks are, and half one after another, as retries are. */
const TOGETHER = 5;
const LATER = 5;
/** Keys that are on their way at a time. */
const CLIENTS = 8;
const QUANTITY = 3;

/** What a load came to. Times are in milliseconds, of single requests as their clients saw them. */
export interface LoadResult {
  readonly keys: readonly string[];
  readonly requests: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  readonly statuses: Record<number, number>;
}

/**
 * Sends every key ten times through nginx and checks the answers of each: one 201, the same body for all that have one, and
 * nothing else but 409 while it was in flight.
 */
export async function sendLoad(fleet: Fleet, requests: number): Promise<LoadResult> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS * TOGETHER });
  const keys = Array.from({ length: Math.ceil(requests / (TOGETHER + LATER)) }, () => randomUUID());
  const times: number[] = [];
  const statuses: Record<number, number> = {};
  const post = async (key: string): Promise<Answer> => {
    const began = performance.now();
    const answer = await send(`${fleet.url}/carts/user-${key}/items`, {
      headers: { 'idempotency-key': key },
      body: { itemId: 'book', quantity: QUANTITY },
      agent,
    });
    times.push(performance.now() - began);
    statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
    return answer;
  };
  const client = async (waiting: string[]): Promise<void> => {
    for (let key = waiting.shift(); key !== undefined; key = waiting.shift()) {
      const answers = await Promise.all(Array.from({ length: TOGETHER }, () => post(key)));
      for (let index = 0; index < LATER; index++) answers.push(await post(key));
      const given = answers.filter(({ status }) => status !== 409);
      const wrong = given.filter(({ status }) => status !== 200 && status !== 201);
      expect(wrong.map(({ status, text }) => ({ status, text }))).toEqual([]);
      expect(given.filter(({ status }) => status === 201)).toHaveLength(1);
      expect(new Set(given.map(({ text }) => text)).size).toBe(1);
    }
  };
  const began = performance.now();
  const waiting = [...keys];
  try {
    await Promise.all(Array.from({ length: CLIENTS }, () => client(waiting)));
  } finally {
    agent.destroy();
  }
  const seconds = (performance.now() - began) / 1000;
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? 0;
  return { keys, requests: times.length, seconds, p50: at(0.5), p99: at(0.99), statuses };
}

/** Every key has had its effect once, and has a record that says so. */
export async function expectOnceEach({ database }: Fleet, { keys }: LoadResult): Promise<void> {
  const wrong = await database.rows(
    `SELECT key, status, attempt, quantity
       FROM unnest($1::text[]) AS key
       LEFT JOIN idempotency_keys USING (key)
       LEFT JOIN cart_items ON user_id = 'user-' || key
      WHERE status IS DISTINCT FROM 'completed' OR attempt IS DISTINCT FROM 1 OR quantity IS DISTINCT FROM $2`,
    [keys, QUANTITY],
  );
  expect(wrong).toEqual([]);
}

/** Waits until the counters of the database have heard of all that was done: a backend tells of it once a second. */
export async function settledTransactions(fleet: Fleet): Promise<number> {
  let last = await fleet.transactions();
  await until('the counters stand still', async () => {
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    const now = await fleet.transactions();
    // The question itself is one of them.
    const isStill = now - last <= 3;
    last = now;
    return isStill || undefined;
  });
  return last;
}

export function describeLoad({ requests, seconds, p50, p99, statuses }: LoadResult): string {
  const answers = Object.entries(statuses)
    .map(([status, count]) => `${count} x ${status}`)
    .join(', ');
  const speed = Math.round(requests / seconds);
  return `${requests} requests in ${seconds.toFixed(1)} s (${speed}/s), p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms: ${answers}`;
}
