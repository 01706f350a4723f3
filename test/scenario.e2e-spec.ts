import { expect, it } from 'vitest';
import { type Fleet, openFleet } from './support/fleet.js';
import { describeLoad, expectOnceEach, sendLoad } from './support/load.js';
import { describeWith } from './support/servers.js';
import { startMemcachedNodes, startRedisCluster } from './support/topology.js';

/** `SCENARIO_REQUESTS=100000` is the whole of it; every key is sent ten times. */
const REQUESTS = Number(process.env['SCENARIO_REQUESTS'] ?? 1_500);

const CACHES = [
  { name: 'a Redis Cluster of three', start: () => startRedisCluster(3) },
  { name: 'three Memcached nodes', start: () => startMemcachedNodes(3) },
] as const;

describeWith(['nginx', 'redis-server', 'memcached'], 'four instances behind nginx', () => {
  it.each(CACHES)(
    `with $name add once for each key of ${REQUESTS} requests, nine of ten duplicates, half of each key at once`,
    async ({ name, start }) => {
      const cache = await start();
      let fleet: Fleet | undefined;
      try {
        // What is slow because all of it shares one machine with other tests is no outage of a node.
        fleet = await openFleet({ cache: cache.url, env: { REPLAY_CACHE_TIMEOUT: '2s' } });
        const load = await sendLoad(fleet, REQUESTS);

        await expectOnceEach(fleet, load);
        const events = await fleet.events();
        expect(events['completed']).toBe(load.keys.length);
        const replays = (source: string): number => events[`replayed from ${source}`] ?? 0;
        const [memory, shared, record, process] = ['memory', 'shared', 'record', 'process'].map(replays) as [
          number,
          number,
          number,
          number,
        ];
        const all = memory + shared + record + process;
        const spared = (memory + shared) / all;
        console.log(
          `${name}: ${describeLoad(load)}; of ${all} replays ${memory} from memory, ${shared} from the shared cache, ` +
            `${record} from the table: ${(100 * spared).toFixed(1)} % without PostgreSQL`,
        );
        expect(all).toBe(load.statuses[200]);
        expect(shared).toBeGreaterThan(0);
        // Those that come while the first runs may find the outcome in the table, before it is in the cache.
        expect(spared).toBeGreaterThan(0.7);
        expect(events['cache-unavailable'] ?? 0).toBe(0);
        expect(events['cache-entry-refused'] ?? 0).toBe(0);
      } finally {
        await fleet?.close();
        await cache.stop();
      }
    },
    60_000 + REQUESTS * 20,
  );
});
