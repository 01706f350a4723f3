import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type FaultyCache,
  startFaultyMemcachedNodes,
  startFaultyRedisCluster,
} from './support/faulty-cache.js';
import { type Fleet, openFleet } from './support/fleet.js';
import { describeLoad, expectOnceEach, type LoadResult, sendLoad } from './support/load.js';
import { describeWith } from './support/servers.js';
import { until } from './support/until.js';

/** Requests of one load, of which there are two for each fault: one without a cache, and one with the faulty one. */
const REQUESTS = Number(process.env['CACHE_FAULT_REQUESTS'] ?? 200);
/** Times count where the machine does nothing else: `npm run test:scale`. */
const IS_MEASURED = process.env['CACHE_FAULT_REQUESTS'] !== undefined;
const TIMEOUT_MS = 60_000 + REQUESTS * 60;

/** Begins the fault; the returned function ends it. */
type Fault = (cache: FaultyCache) => (() => void | Promise<void>) | Promise<() => void>;

/** Does it again and again, as often as the load leaves time for. */
function again(everyMs: number, work: () => Promise<unknown>): () => Promise<void> {
  const end = new AbortController();
  const loop = (async () => {
    while (!end.signal.aborted) {
      await work();
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  })();
  return async () => {
    end.abort();
    await loop;
  };
}

const FAULTS: readonly (readonly [string, Fault])[] = [
  ['flushed ten times a second', (cache) => again(100, () => cache.flush())],
  ['filled with garbage all the time', (cache) => again(20, () => cache.spoil())],
  [
    'a second late',
    ({ way }) => {
      way.setFault({ kind: 'delay', direction: 'both', delayMs: 1_000 });
      return () => way.setFault();
    },
  ],
  [
    'a black hole',
    ({ way }) => {
      way.setFault({ kind: 'black-hole', direction: 'both' });
      return () => way.setFault();
    },
  ],
  [
    'stopped by SIGSTOP',
    async ({ first }) => {
      await first.pause();
      return () => first.resume();
    },
  ],
  [
    'killed',
    async ({ first }) => {
      await first.kill();
      return () => undefined;
    },
  ],
];

const CACHES = [
  ['a Redis Cluster', startFaultyRedisCluster],
  ['Memcached', startFaultyMemcachedNodes],
] as const;

describeWith(['nginx', 'redis-server', 'memcached'], 'a cache of three nodes, one of which fails', () => {
  let plain: Fleet;
  beforeAll(async () => {
    plain = await openFleet({});
  });
  afterAll(() => plain.close());

  describe.each(CACHES)('%s', (name, start) => {
    let cache: FaultyCache;
    let fleet: Fleet;
    beforeAll(async () => {
      cache = await start();
      fleet = await openFleet({ cache: cache.url });
      // Its faults come to instances that are used to an answer.
      await sendLoad(fleet, 200);
    });
    afterAll(async () => {
      await fleet.close();
      await cache.stop();
    });

    it.each(FAULTS)(
      'answers right, once each, and about as fast as without a cache, when it is %s',
      async (fault, begin) => {
        await until(
          'every instance asks every node again',
          async () => {
            const { 'cache-unavailable': away = 0, 'cache-available': back = 0 } = await fleet.events();
            return away === back;
          },
          20_000,
        );
        const without: LoadResult = await sendLoad(plain, REQUESTS);
        const before = await fleet.events();
        const end = await begin(cache);
        let load: LoadResult;
        try {
          load = await sendLoad(fleet, REQUESTS);
        } finally {
          await end();
        }

        await expectOnceEach(fleet, load);
        const events = await fleet.events();
        const since = (event: string): number => (events[event] ?? 0) - (before[event] ?? 0);
        console.log(
          `${name}, ${fault}: ${describeLoad(load)}; p99 without a cache ${without.p99.toFixed(1)} ms; left alone ` +
            `${since('cache-unavailable')} times, ${since('cache-entry-refused')} entries refused, ` +
            `${since('replayed from shared')} replays from the other nodes`,
        );
        expect(since('completed')).toBe(load.keys.length);
        if (IS_MEASURED) expect(load.p99).toBeLessThan(3 * without.p99);
        if (fault.includes('garbage')) expect(since('cache-entry-refused')).toBeGreaterThan(0);
        if (!/flushed|garbage/.test(fault)) expect(since('cache-unavailable')).toBeGreaterThan(0);
      },
      TIMEOUT_MS,
    );
  });
});
