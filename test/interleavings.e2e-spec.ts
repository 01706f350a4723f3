import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BROKEN, type Finder, unpinned } from './interleavings/broken.js';
import {
  describeExploration,
  type Expected,
  type Exploration,
  explore,
  type ExploreOptions,
} from './interleavings/explore.js';
import { Ground } from './interleavings/ground.js';
import { Grounds } from './interleavings/grounds.js';
import {
  FIRST_LEASES,
  LATE_OUTCOME,
  LATE_RELEASE,
  LATE_RELEASE_TABLE,
  PHASE_AND_TAKEOVER,
  type ToldByLevel,
  ZOMBIE,
} from './interleavings/lease-scenarios.js';
import {
  ABANDONED_AND_TWO,
  DYING_OWNER_AND_TWO,
  EXPIRED_AND_TWO,
  EXPIRED_TWO_AND_REAPER,
  LOST_COMMIT_AND_RETRY,
} from './interleavings/message-scenarios.js';
import { interleave } from './interleavings/interleave.js';
import { named, sentOneAfterAnother } from './interleavings/one-after-another.js';
import { type Scenario, turnsOf } from './interleavings/scenario.js';
import {
  DEATH_AND_RETRY,
  EXPIRED_AND_REAPER,
  LOST_COMMIT,
  LOST_COMMIT_OR_DEATH,
  LOST_COMMIT_TABLE,
  OTHER_PAYLOAD,
  RELEASE_AND_RETRY,
  SAME_PAYLOAD,
  type Told,
  WAITING,
} from './interleavings/transaction-scenarios.js';
import { createDatabase, type TestDatabase } from './support/database.js';

const SEED = 20_261;
/** Of the orders of three sessions, unless `INTERLEAVINGS=all` asks for every one. */
const SAMPLE = process.env['INTERLEAVINGS'] === 'all' ? undefined : { size: 100, seed: SEED };

const LEVELS = ['read committed', 'repeatable read', 'serializable'];
/** Every order of three sessions takes its time. */
const PATIENCE_MS = SAMPLE ? 60_000 : 3_600_000;

/** What a scenario's sessions send one after another, on the library's own session and on the one that is taken apart. */
const sentTwice = <Prepared>(scenario: Scenario<Prepared>) => ({
  name: scenario.name,
  sent: async (ground: Ground) => {
    const whole = await sentOneAfterAnother(ground, scenario);
    const serial = Object.entries(turnsOf(scenario)).map(([name, turns]) => name.repeat(turns));
    const { sent } = await interleave(ground, scenario, serial.join(''));
    return { whole, apart: named(ground, sent) };
  },
});

const ALL = [
  sentTwice(SAME_PAYLOAD.scenario),
  sentTwice(WAITING.scenario),
  sentTwice(OTHER_PAYLOAD.scenario),
  sentTwice(DEATH_AND_RETRY.scenario),
  sentTwice(RELEASE_AND_RETRY.scenario),
  sentTwice(EXPIRED_AND_REAPER.scenario),
  sentTwice(EXPIRED_AND_TWO.scenario),
  sentTwice(ABANDONED_AND_TWO.scenario),
  sentTwice(LOST_COMMIT),
  sentTwice(LOST_COMMIT_OR_DEATH.scenario),
  sentTwice(FIRST_LEASES.scenario),
  sentTwice(ZOMBIE.scenario),
  sentTwice(PHASE_AND_TAKEOVER.scenario),
  sentTwice(LATE_RELEASE),
  sentTwice(LATE_OUTCOME.scenario),
  sentTwice(EXPIRED_TWO_AND_REAPER.scenario),
  sentTwice(DYING_OWNER_AND_TWO.scenario),
  sentTwice(LOST_COMMIT_AND_RETRY.scenario),
];

const fromTable =
  (table: Readonly<Record<string, string>>): Expected =>
  (permutation) =>
    table[permutation] ?? 'not in the table';

describe.concurrent.each(LEVELS)('under a default of %s', (level) => {
  let database: TestDatabase;
  let grounds: Grounds;

  beforeAll(async () => {
    database = await createDatabase();
    await database.alter(`SET default_transaction_isolation = '${level}'`);
    grounds = new Grounds(database);
  });
  afterAll(async () => {
    await grounds.close();
    await database.drop();
  });

  /** Every order comes to what is expected of it, and none to what must never be seen. */
  async function holds<Prepared>(
    scenario: Scenario<Prepared>,
    expected: Expected,
    options: ExploreOptions = {},
  ): Promise<Exploration> {
    const found = await grounds.on((ground) => explore(ground, scenario, expected, options));
    console.log(describeExploration(level, found));
    expect(found.mismatches.slice(0, 5)).toEqual([]);
    return found;
  }

  const told =
    <Prepared>({ scenario, expected }: Told<Prepared>) =>
    (): Promise<unknown> =>
      holds(scenario, expected);
  const toldByLevel =
    <Prepared>({ scenario, expectedAt }: ToldByLevel<Prepared>) =>
    (): Promise<unknown> =>
      holds(scenario, expectedAt(level === 'read committed'));

  it('sessions begin transactions of that kind', async () => {
    const { rows } = await grounds.on(async (ground) =>
      (await ground.connection('A')).client.query('SHOW transaction_isolation'),
    );
    expect(rows).toEqual([{ transaction_isolation: level }]);
  });

  it(
    'of two requests the one that looks first executes; the other is refused before its commit, and replays behind it',
    told(SAME_PAYLOAD),
  );
  it(
    'another payload is key reuse at every moment, and the one that made the record executes',
    told(OTHER_PAYLOAD),
  );
  it('a request that waits for the row is woken by the commit, and replays', told(WAITING));
  it(
    'a request dies at any moment and leaves nothing; a retry takes over and counts what had begun',
    told(DEATH_AND_RETRY),
  );
  it('a request that fails leaves no effect, and a retry runs as the next attempt', told(RELEASE_AND_RETRY));
  it('an expired record is made new or deleted, and executed once', told(EXPIRED_AND_REAPER));
  it('an expired record is executed once by two requests', told(EXPIRED_AND_TWO));
  it('an abandoned record is counted once and executed once by two requests', told(ABANDONED_AND_TWO));
  it('a COMMIT that stands is never said to be rolled back: every order, written out', async () => {
    const { table } = await holds(LOST_COMMIT, fromTable(LOST_COMMIT_TABLE), { keepTable: true });
    expect(table).toEqual(LOST_COMMIT_TABLE);
  });
  it('a COMMIT that was never sent is never said to stand', told(LOST_COMMIT_OR_DEATH));
  it('of two first requests of lease mode one has the lease', toldByLevel(FIRST_LEASES));
  it('an owner whose lease was taken over writes nothing any more', toldByLevel(ZOMBIE));
  it('a takeover comes before all of a phase or behind it', toldByLevel(PHASE_AND_TAKEOVER));
  it('a late release leaves another life of the key alone: every order, written out', async () => {
    const { table } = await holds(LATE_RELEASE, fromTable(LATE_RELEASE_TABLE), { keepTable: true });
    expect(table).toEqual(LATE_RELEASE_TABLE);
  });
  it('a late outcome is not that of another life of the key', toldByLevel(LATE_OUTCOME));

  describe(
    SAMPLE ? `of three sessions, in ${SAMPLE.size} orders by the seed ${SEED}` : 'of three sessions',
    () => {
      const toldOfThree =
        <Prepared>({ scenario, expected }: Told<Prepared>) =>
        (): Promise<unknown> =>
          holds(scenario, expected, { sample: SAMPLE });

      it('an expired record, two requests and the reaper', toldOfThree(EXPIRED_TWO_AND_REAPER), PATIENCE_MS);
      it('an owner that dies, and two requests', toldOfThree(DYING_OWNER_AND_TWO), PATIENCE_MS);
      it(
        'a COMMIT whose answer is lost, the question after it, and a retry',
        toldOfThree(LOST_COMMIT_AND_RETRY),
        PATIENCE_MS,
      );
    },
  );
});

describe('what is interleaved', () => {
  let database: TestDatabase;
  let ground: Ground;
  beforeAll(async () => {
    database = await createDatabase();
    ground = await Ground.open(database, 'tapped', { readsWire: true });
  });
  afterAll(async () => {
    await ground.close();
    await database.drop();
  });

  it.each(ALL)('is what the library sends, in its order: $name', async ({ sent }) => {
    const { whole, apart } = await sent(ground);
    expect(apart).toEqual(whole);
  });

  it('are the statements of a claim, a completion, a release, a takeover and a lease', async () => {
    const claim = ['BEGIN', 'CLAIM', 'COMMIT_AND_CHAIN', 'LOCK_OR_READ', 'SAVEPOINT'];
    const complete = ['the effect', 'RELEASE_SAVEPOINT', 'COMPLETE', 'COMMIT'];
    const count = ['RELEASE_SAVEPOINT', 'RECLAIM', 'COMMIT'];
    const back = ['the effect', 'ROLLBACK_TO_SAVEPOINT', 'RELEASE_SAVEPOINT', 'RELEASE', 'COMMIT'];
    expect(await sentOneAfterAnother(ground, SAME_PAYLOAD.scenario)).toEqual({
      A: [...claim, ...complete],
      B: [...claim, 'ROLLBACK'],
    });
    expect(await sentOneAfterAnother(ground, RELEASE_AND_RETRY.scenario)).toEqual({
      A: [...claim, ...back],
      B: [...claim, ...count, ...claim, ...complete],
    });
    expect(await sentOneAfterAnother(ground, LOST_COMMIT)).toEqual({
      A: complete,
      S: ['BEGIN', 'LIMIT_WAIT', 'SETTLED', 'ROLLBACK', 'BEGIN', 'MARK', 'COMMIT'],
    });
    expect(await sentOneAfterAnother(ground, PHASE_AND_TAKEOVER.scenario)).toEqual({
      O: ['BEGIN', 'lease PHASE', 'the effect', 'lease JOURNAL_PHASE', 'COMMIT'],
      T: ['lease CLAIM', 'READ', 'lease JOURNAL', 'lease COMPLETE'],
    });
  });
});

/** What a broken statement is looked for with. */
const FINDERS: Readonly<Record<Finder, (options: ExploreOptions, ground: Ground) => Promise<Exploration>>> = {
  'same payload': finder(SAME_PAYLOAD),
  'expired and two': finder(EXPIRED_AND_TWO),
  'expired and reaper': finder(EXPIRED_AND_REAPER),
  'lost commit': finder({ scenario: LOST_COMMIT, expected: fromTable(LOST_COMMIT_TABLE) }),
  zombie: finder({ scenario: ZOMBIE.scenario, expected: ZOMBIE.expectedAt(true) }),
  'phase and takeover': finder({
    scenario: PHASE_AND_TAKEOVER.scenario,
    expected: PHASE_AND_TAKEOVER.expectedAt(true),
  }),
  'late release': finder({ scenario: LATE_RELEASE, expected: fromTable(LATE_RELEASE_TABLE) }),
  'late outcome': finder({ scenario: LATE_OUTCOME.scenario, expected: LATE_OUTCOME.expectedAt(true) }),
};

function finder<Prepared>({ scenario, expected }: Told<Prepared>) {
  return (options: ExploreOptions, ground: Ground): Promise<Exploration> =>
    explore(ground, scenario, expected, options);
}

describe.concurrent('a statement with something left out is found by its interleavings', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  it.each(BROKEN.map((broken, index) => ({ ...broken, index })))('$name', async ({ index, ...broken }) => {
    const ground = await Ground.open(database, `broken${index}`, { plant: broken.plant });
    const { permutations, mismatches } = await FINDERS[broken.finder](
      { until: ({ found, violations }) => [found, ...violations].join('; ').includes(broken.shows) },
      ground,
    );
    await ground.close();
    const found = mismatches.at(-1);
    if (!found) throw new Error(`none of ${permutations} permutations differs`);
    const seen = [found.found, ...found.violations].join('; ');
    console.log(
      `${broken.name}: found by permutation ${permutations}, ${found.permutation}: ${seen}; expected: ${found.expected}`,
    );
    expect(seen).toContain(broken.shows);
  });
});

describe.concurrent.each(LEVELS)(
  "the library's transactions at the session's default of %s in place of their own",
  (level) => {
    let database: TestDatabase;
    beforeAll(async () => {
      database = await createDatabase();
      await database.alter(`SET default_transaction_isolation = '${level}'`);
    });
    afterAll(() => database.drop());

    it(level === 'read committed' ? 'are the same' : 'are refused where they have waited', async () => {
      const ground = await Ground.open(database, 'unpinned', { plant: unpinned });
      const { scenario, expected } = WAITING;
      const found = await explore(ground, scenario, expected);
      await ground.close();
      const [first] = found.mismatches;
      console.log(`BEGIN without its level: ${describeExploration(level, found)}`, first);
      expect(found.mismatches.length > 0).toBe(level !== 'read committed');
    });
  },
);
