import { expect, it } from 'vitest';
import { createDatabase } from './support/database.js';
import { type Added, expectAddedOnce, openRollingFleet } from './support/rolling.js';
import { describeRolling, startRollingLoad } from './support/rolling-load.js';
import { describeWith } from './support/servers.js';

/** How often every instance is restarted. */
const ROUNDS = Number(process.env['ROLLING_ROUNDS'] ?? 1);
/** Two of them in the short form: what is replaced, and what serves meanwhile. */
const INSTANCES = process.env['ROLLING_ROUNDS'] === undefined ? 2 : 4;

describeWith(['nginx'], 'instances behind nginx, restarted one after another under load', () => {
  it(
    'answer every request, in flight when one is stopped or not, and add once for each key',
    async () => {
      const database = await createDatabase();
      const fleet = await openRollingFleet({ database, instances: INSTANCES });
      const load = startRollingLoad(fleet.url);
      try {
        const held: Added[] = [];
        await load.settle(20);
        for (let round = 0; round < ROUNDS; round++) {
          for (let index = 0; index < INSTANCES; index++) {
            held.push(await fleet.replace(index));
            await load.settle(20);
          }
        }
        await load.stop();

        console.log(`${ROUNDS * INSTANCES} restarts: ${describeRolling(load)}`);
        await expectAddedOnce(database, [...load.settled, ...held]);
        expect(load.failures).toEqual([]);
      } finally {
        await load.stop();
        await fleet.close();
        await database.drop();
      }
    },
    120_000 * ROUNDS,
  );
});
