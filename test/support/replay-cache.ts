import { afterEach, beforeEach, vi } from 'vitest';
import { memoryCache } from '../../libs/idempotency/src/cache/memory/index.js';
import type { KeptOutcome, Known, ReplayCache } from '../../libs/idempotency/src/cache/replay-cache.js';
import { ReplayCaches } from '../../libs/idempotency/src/cache/replay-caches.js';
import type { SharedCache } from '../../libs/idempotency/src/cache/shared-cache.js';
import type { IdempotencyEvent } from '../../libs/idempotency/src/events/idempotency-event.js';
import { Sealer } from '../../libs/idempotency/src/sealing/sealer.js';
import { DatabaseClock } from '../../libs/idempotency/src/store/database-clock.js';
import type { AttemptIdentity } from '../../libs/idempotency/src/store/identity.js';

const FAKED = [
  'setTimeout',
  'clearTimeout',
  'setImmediate',
  'clearImmediate',
  'performance',
  'Date',
] as const;
/** When the tests begin, by the database's clock; this machine's time of day is hours off. */
const DATABASE_MS = 1_764_000_000_000;
let startedAt: number;

/** For all tests of the file that calls it: time passes when they say so. */
export function useFakedTime(): void {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: [...FAKED], now: DATABASE_MS - 7 * 3_600_000 });
    startedAt = performance.now();
  });
  afterEach(() => void vi.useRealTimers());
}

export const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
export const databaseNow = (): number => DATABASE_MS + performance.now() - startedAt;

const sealing = new Sealer([Buffer.alloc(32, 7)]);
export const identity = (seed = 1, fingerprint = 1): AttemptIdentity => ({
  namespace: 'default',
  scope: '',
  key: `key ${seed}`,
  keyHash: Buffer.alloc(32, seed),
  operation: 'POST /',
  fingerprint: Buffer.alloc(32, fingerprint),
});
export const one = identity();
export const outcome = (text = 'paid', lifeMs = 60_000): KeptOutcome => ({
  raised: false,
  response: { status: 201, headers: { etag: '"1"' }, body: Buffer.from(text) },
  expiresAtMs: databaseNow() + lifeMs,
});
const textOf = (known: Known | undefined): string | undefined =>
  known?.kind === 'final' ? `${known.source}: ${known.response.body?.toString()}` : known?.kind;

/** A shared cache whose answers come at once, and what was written there. */
export function sharedCache(parts: Partial<SharedCache> = {}) {
  const held = new Map<string, { value: Uint8Array; until: number }>();
  const asked: string[] = [];
  const at = (key: string): Uint8Array | undefined => {
    const found = held.get(key);
    return found && found.until > performance.now() ? found.value : undefined;
  };
  const cache: SharedCache = {
    name: 'double',
    start: () => undefined,
    nodeOf: () => 'a',
    get: (key) => {
      asked.push(key);
      return Promise.resolve(at(key));
    },
    set: (key, value, { ttlMs, onlyIfAbsent }) => {
      if (!onlyIfAbsent || !at(key)) held.set(key, { value, until: performance.now() + ttlMs });
      return Promise.resolve();
    },
    delete: (key) => {
      held.delete(key);
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
    ...parts,
  };
  const ttl = (): number => Math.max(...[...held.values()].map(({ until }) => until - performance.now()));
  return { cache, held, asked, ttl };
}

interface ProcessOptions {
  readonly shared?: SharedCache | undefined;
  readonly memory?: boolean;
  readonly inFlightMs?: number | undefined;
  readonly space?: string;
}

/** What one process has, after it has heard from its database. */
export function aProcess({ shared, memory = false, space = 'a1', ...options }: ProcessOptions = {}) {
  const events: IdempotencyEvent[] = [];
  const clock = new DatabaseClock();
  const caches = new ReplayCaches({
    memory: memory ? memoryCache() : undefined,
    shared: shared && { cache: shared, sealing },
    timeoutMs: 50,
    inFlightMs: 'inFlightMs' in options ? options.inFlightMs : 2_000,
    emit: (event) => events.push(event),
  });
  const hear = (): void => clock.observe(databaseNow(), performance.now());
  hear();
  return { cache: caches.of(space, clock), events, hear, clock };
}

/** Executes to an outcome, quicker than a hint is given. */
export function execute(cache: ReplayCache, kept: KeptOutcome | undefined, who = one): void {
  cache.begin(who, () => true)(kept);
}
export const find = async (cache: ReplayCache, who = one): Promise<string | undefined> =>
  textOf(await cache.find(who));
