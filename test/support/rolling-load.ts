import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import { type Answer, send } from './http.js';
import { type Added, HELD_MS } from './rolling.js';
import { until } from './until.js';

/** Keys that are on their way at a time, each of a user of its own. */
const CLIENTS = 8;
/** Every so manieth key is held in flight, and sent a second time meanwhile. */
const HELD_EVERY = 3;
/** What a client waits before its next key: the load is steady, not as much as the machine can do. */
const THINKING_MS = 100;
/** How long after a 409 a client asks again. */
const AGAIN_MS = 100;

/** A key of the load that was answered, and replayed each time it was sent again. Times are those of `performance.now()`. */
export interface Settled extends Added {
  readonly beganAt: number;
  readonly endedAt: number;
}

export interface RollingLoad {
  readonly settled: readonly Settled[];
  /** What no client may see, as text: a broken connection, another status than 200, 201 and 409, an answer unlike the first one. */
  readonly failures: readonly string[];
  /** How many answers there were of each status. */
  readonly statuses: Readonly<Record<number, number>>;
  /** Waits until so many keys have settled that began after this call. */
  settle(count: number): Promise<void>;
  /** Ends the load when each client has settled its key. */
  stop(): Promise<void>;
}

/**
 * Adds items through nginx until it is stopped. Each key is sent again up to three times after it was answered; what is in flight is
 * asked for again a moment later.
 */
export function startRollingLoad(url: string): RollingLoad {
  const agent = new http.Agent({ keepAlive: true });
  const settled: Settled[] = [];
  const failures: string[] = [];
  const statuses: Record<number, number> = {};
  const stopping = new AbortController();

  /** The answer to a key; `undefined` after a failure, which is noted. */
  const ask = async (user: string, key: string, heldMs: number): Promise<Answer | undefined> => {
    for (;;) {
      const answer = await send(`${url}/carts/${user}/items`, {
        headers: {
          'idempotency-key': key,
          ...(heldMs > 0 ? { 'x-demo-delay-ms': String(heldMs) } : {}),
        },
        body: { itemId: 'book', quantity: 1 },
        agent,
      }).catch((error: unknown) => void failures.push(`${key}: ${String(error)}`));
      if (!answer) return undefined;
      statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
      if (answer.status === 200 || answer.status === 201) return answer;
      if (answer.status !== 409) {
        failures.push(`${key}: ${answer.status} ${answer.text}`);
        return undefined;
      }
      await pause(AGAIN_MS);
    }
  };

  const add = async (user: string, turn: number): Promise<void> => {
    const key = randomUUID();
    const beganAt = performance.now();
    const isHeld = turn % HELD_EVERY === 0;
    const heldMs = isHeld ? HELD_MS : 0;
    const answers = await Promise.all(Array.from({ length: isHeld ? 2 : 1 }, () => ask(user, key, heldMs)));
    // After a failure it may have run or not.
    if (answers.includes(undefined)) return;
    for (let again = 0; again <= turn % 3; again++) {
      const replay = await ask(user, key, 0);
      if (replay?.status === 201) failures.push(`${key}: 201 for a key that was answered`);
      answers.push(replay);
    }
    const given = answers.filter((answer) => answer !== undefined);
    const [answer] = given.toSorted((a, b) => b.status - a.status);
    if (!answer || given.length < answers.length) return;
    if (given.filter(({ status }) => status === 201).length > 1) failures.push(`${key}: 201 twice`);
    if (given.some(({ body }) => !body.equals(answer.body))) {
      failures.push(`${key}: ${given.map(({ text }) => text).join(' or ')}`);
    }
    settled.push({ user, key, answer, beganAt, endedAt: performance.now() });
  };

  const client = async (): Promise<void> => {
    const user = randomUUID();
    for (let turn = 0; !stopping.signal.aborted; turn++) {
      await add(user, turn);
      await pause(THINKING_MS);
    }
  };
  const clients = Promise.all(Array.from({ length: CLIENTS }, client));
  return {
    settled,
    failures,
    statuses,
    settle: async (count) => {
      const from = performance.now();
      const since = (): number => settled.filter(({ beganAt }) => beganAt > from).length;
      await until(`${count} keys settle`, () => since() >= count || failures.length > 0, 30_000);
      expect(failures).toEqual([]);
    },
    stop: async () => {
      stopping.abort();
      await clients;
      agent.destroy();
    },
  };
}

export function describeRolling({ settled, statuses, failures }: RollingLoad): string {
  const answers = Object.entries(statuses).map(([status, count]) => `${count} x ${status}`);
  return `${settled.length} keys, ${answers.join(', ')}, ${failures.length} failed`;
}
