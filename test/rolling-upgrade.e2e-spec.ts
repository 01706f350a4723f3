import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type { CartProcess } from './support/cart-process.js';
import { type CartVersion, unpackCart } from './support/cart-version.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import type { Answer } from './support/http.js';
import {
  type Added,
  addOne,
  expectAddedOnce,
  openRollingFleet,
  type RollingFleet,
} from './support/rolling.js';
import { describeRolling, type RollingLoad, startRollingLoad } from './support/rolling-load.js';
import { describeWith } from './support/servers.js';

/** How often all instances are upgraded and rolled back. */
const ROUNDS = Number(process.env['ROLLING_ROUNDS'] ?? 1);
/** Two of them in the short form: what is replaced, and what serves meanwhile. */
const INSTANCES = process.env['ROLLING_ROUNDS'] === undefined ? 2 : 4;
/** How many keys of one version an instance of the other is asked for. */
const SAMPLE = 50;

/** A key's first answer, and what it is answered ever after. */
function expectSame(replay: Answer, first: Answer): void {
  expect(replay.status).toBe(200);
  expect(replay.headers['idempotent-replayed']).toBe('true');
  expect(replay.headers['content-type']).toBe(first.headers['content-type']);
  expect(replay.body.equals(first.body)).toBe(true);
}

let old: CartVersion;
let database: TestDatabase;

beforeAll(() => {
  old = unpackCart('0.1.0');
});
afterAll(() => old.remove());
beforeEach(async () => {
  database = await createDatabase();
});
afterEach(() => database.drop());

describeWith(['nginx'], 'instances behind nginx, upgraded from 0.1.0 under load and rolled back', () => {
  let fleet: RollingFleet;
  let load: RollingLoad;
  let held: Added[];

  beforeEach(async () => {
    // Not through a pooler of transactions: 0.1.0 is not meant for one.
    fleet = await openRollingFleet({
      database,
      databaseUrl: database.directUrl,
      instances: INSTANCES,
      main: old.main,
    });
    held = [];
    load = startRollingLoad(fleet.url);
  });
  afterEach(async () => {
    await load.stop();
    await fleet.close();
  });

  /** Replaces all instances by another version; `meanwhile` is told of the first of them. */
  async function replaceAll(main: string | undefined, meanwhile: (first: CartProcess) => Promise<void>) {
    for (let index = 0; index < INSTANCES; index++) {
      held.push(await fleet.replace(index, main));
      await load.settle(20);
      if (index === 0) await meanwhile(fleet.carts[0] as CartProcess);
    }
  }

  /** All that began and settled while one version was alone. */
  const settledWithin = (from: number, until: number): Added[] =>
    load.settled.filter(({ beganAt, endedAt }) => beganAt > from && endedAt < until);

  it(
    'answer every request, add once for each key, and replay what the other version recorded',
    async () => {
      let asked = 0;
      const expectReplayed = async (at: CartProcess, recorded: readonly Added[]): Promise<void> => {
        const sample = recorded.slice(-SAMPLE);
        expect(sample.length).toBeGreaterThanOrEqual(20);
        for (const added of sample) expectSame(await addOne(at.url, added.user, added.key), added.answer);
        asked += sample.length;
      };

      for (let round = 0; round < ROUNDS; round++) {
        const allOld = performance.now();
        await load.settle(40);
        const upgradeBegins = performance.now();
        await replaceAll(undefined, (first) => expectReplayed(first, settledWithin(allOld, upgradeBegins)));
        const allNew = performance.now();
        await load.settle(40);
        const rollbackBegins = performance.now();
        await replaceAll(old.main, (first) => expectReplayed(first, settledWithin(allNew, rollbackBegins)));
      }
      await load.stop();

      console.log(
        `${2 * ROUNDS * INSTANCES} replacements: ${describeRolling(load)}; ${asked} keys replayed by the other version when asked directly`,
      );
      await expectAddedOnce(database, [...load.settled, ...held]);
      expect(load.failures).toEqual([]);
    },
    180_000 * ROUNDS,
  );
});
