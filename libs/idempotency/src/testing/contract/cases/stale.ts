import { StaleAttemptError } from '../../../store/idempotency.store.js';
import type { CaseDefinition } from '../case-definition.js';
import { agrees, failure, holds } from '../expectations.js';
import type { Stage } from '../stage.js';
import { type Owner, TTL_MS } from '../transaction-calls.js';

/** What an attempt may still do when its record is another's. */
export const stale: readonly CaseDefinition[] = [
  {
    name: 'transaction mode: an attempt that is fenced out writes nothing, and its rows are not committed',
    prove: async (on) => {
      await on.effects.prepare();
      for (const next of ['begun', 'completed']) {
        const { first, record } = await replaced(on, next);
        const late = await on.transactions.withoutLock(first);
        await on.effects.write(late.session, first.identity);
        const { kind } = await on.transactions.complete(late, { response: LATE });
        holds(`rows of it, the next attempt ${next}`, await on.effects.count(first.identity), 0);
        holds(`the record, the next attempt ${next}`, await on.version(first.identity), record);
        holds('its COMMIT', kind, 'refused');
        await on.close(late.session);
      }
    },
  },
  {
    name: 'transaction mode: an attempt that is fenced out neither gives the key back nor counts another attempt',
    prove: async (on) => {
      for (const next of ['begun', 'completed']) {
        const { first, record } = await replaced(on, next);
        await on.transactions.giveBack(first);
        holds(
          `the record after its release, the next attempt ${next}`,
          await on.version(first.identity),
          record,
        );
        for (const began of [true, false]) {
          await on.transactions.released(await on.transactions.withoutLock(first), { began });
          holds(`the record after its release, begun: ${began}`, await on.version(first.identity), record);
        }
        await expectStale(on, first);
        holds('the record after its count', await on.version(first.identity), record);
      }
    },
  },
  {
    name: 'transaction mode: another life of the key does not pass the fence of the release',
    prove: async (on) => {
      const identity = on.identity();
      const first = await on.transactions.own(identity);
      await on.transactions.abandon(first);
      await on.remove(identity);
      // The same number, begun anew by either mode: no lock is in the way of the late release.
      const second = await on.transactions.own(identity);
      holds('the number in the second life', second.attempt, first.attempt);
      await on.transactions.abandon(second);
      await on.transactions.giveBack(first);
      agrees('the second life after a release of the first', await on.record(identity), {
        status: 'pending',
      });
      await on.remove(identity);
      await on.leases.own(identity);
      await on.transactions.giveBack(first);
      agrees('a lease after a release of a former life', await on.record(identity), {
        status: 'pending',
        leased: true,
      });
    },
  },
];

const LATE = { status: 200, headers: {}, body: Buffer.from('late') };

/** An attempt that has lost its lock and does not know, with the record as the next one has left it. */
async function replaced(on: Stage, next: string): Promise<{ first: Owner; record: unknown[] }> {
  const identity = on.identity();
  const first = await on.transactions.own(identity);
  await on.transactions.abandon(first);
  const second = await on.transactions.retry(identity);
  if (next === 'completed') await on.transactions.completed(second);
  // Its row is free, so that it is the fence that keeps the first one out, and no lock.
  else await on.transactions.abandon(second);
  return { first, record: await on.version(identity) };
}

async function expectStale(on: Stage, owner: Owner): Promise<void> {
  const { session, identity, attempt } = await on.transactions.withoutLock(owner);
  const next = { attempt, abandoned: 1, ttlMs: TTL_MS };
  const counting = on.transactions.store.reclaim(session, identity, next);
  const error = await counting.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  await on.close(session);
  if (error === undefined) throw failure('a count of another attempt went through');
  if (!(error instanceof StaleAttemptError)) throw error;
}
