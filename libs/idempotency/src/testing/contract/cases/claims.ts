import type { CaseDefinition } from '../case-definition.js';
import { AT_ONCE_MS, atOnce, begun, holds, tally } from '../expectations.js';
import type { Claim } from '../transaction-calls.js';

export const CALLERS = 32;
const ROUNDS = 3;

/** Who gets a record of transaction mode, and who waits for it. */
export const claims: readonly CaseDefinition[] = [
  {
    name: `transaction mode: of ${CALLERS} claims at once one gets the record, and the others see it in flight`,
    prove: async (on) => {
      for (let round = 0; round < ROUNDS; round++) {
        const identity = on.identity();
        let winner: Claim | undefined;
        const claim = async (): Promise<string> => {
          const made = await on.transactions.claim(identity);
          if (made.locked && !winner) winner = made;
          // It needs its connection no more, which others may be waiting for.
          else if (made.locked) await on.close(made.session);
          return made.found;
        };
        const found = await Promise.all(Array.from({ length: CALLERS }, claim));
        holds(`${CALLERS} claims`, tally(found), { 'in-flight': CALLERS - 1, locked: 1 });
      }
    },
  },
  {
    name: 'transaction mode: a held record is skipped, and seen as in flight at once',
    prove: async (on) => {
      const identity = on.identity();
      await on.transactions.own(identity);
      const claim = await atOnce('a claim of a held record', on.transactions.claim(identity));
      holds('a claim of a held record', claim.found, 'in-flight');
      const look = await atOnce('a look at a held record', on.transactions.look(identity));
      holds('a look at a held record', look.state, 'in-flight');
    },
  },
  {
    name: "transaction mode: the key is free as soon as its owner's connection is gone, with nothing of its rows",
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const { session } = await on.transactions.own(identity);
      await on.effects.write(session, identity);
      session.destroy(new Error('its process dies'));
      const next = await on.transactions.claim(identity, { waitMs: AT_ONCE_MS });
      holds('a claim after the owner is gone', next.found, 'locked');
      holds('it is told that an attempt had begun', next.locked?.begun, true);
      holds('rows of the attempt that died', await on.effects.count(identity), 0);
    },
  },
  {
    name: 'transaction mode: a claim that waits gives up in time, and the owner is not disturbed',
    prove: async (on) => {
      const identity = on.identity();
      const owner = await on.transactions.own(identity);
      const waiting = on.transactions.claim(identity, { waitMs: 100 });
      const { found } = await atOnce('a claim that waits for 100 ms', waiting);
      holds('a claim that waited for 100 ms', found, 'wait-over');
      await on.transactions.completed(owner);
    },
  },
  {
    name: "transaction mode: a claim that waits is given the owner's answer",
    prove: async (on) => {
      const identity = on.identity();
      const owner = await on.transactions.own(identity);
      const waiting = begun(on.transactions.claim(identity, { waitMs: AT_ONCE_MS }));
      await on.untilWaitedFor(owner.session);
      await on.transactions.completed(owner);
      const { found } = await atOnce('a claim whose owner has completed', waiting, 2 * AT_ONCE_MS);
      holds('a claim that waited for its owner', found, 'final');
    },
  },
  {
    name: 'transaction mode: a look takes nothing: neither an absent record, nor a free or a final one',
    prove: async (on) => {
      const identity = on.identity();
      const state = async (): Promise<string> => (await on.transactions.look(identity)).state;
      holds('a look where nothing is', await state(), 'absent');
      holds('a record after that look', await on.record(identity), undefined);
      await on.transactions.abandon(await on.transactions.own(identity));
      const abandoned = await on.version(identity);
      holds('a look at a record that is free', await state(), 'in-flight');
      holds('the record after that look', await on.version(identity), abandoned);
      await on.transactions.completed(await on.transactions.retry(identity));
      const final = await on.version(identity);
      holds('a look at a final record', await state(), 'final');
      holds('the record after that look', await on.version(identity), final);
    },
  },
];
