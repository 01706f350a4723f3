import type { CaseDefinition } from '../case-definition.js';
import { agrees, AT_ONCE_MS, holds } from '../expectations.js';

/** What is known of the attempts before, when the next one begins. */
export const retries: readonly CaseDefinition[] = [
  {
    name: 'transaction mode: an attempt that died is counted durably, before the next one begins',
    prove: async (on) => {
      const identity = on.identity();
      const first = await on.transactions.own(identity);
      first.session.destroy(new Error('its process dies'));
      const waitMs = AT_ONCE_MS;
      const second = await on.transactions.claim(identity, { waitMs });
      const died = { status: 'pending', begun: true };
      agrees('after the first death', second.locked, { ...died, attempt: 1, abandoned: 0 });
      await on.transactions.reclaim(identity, second);
      const counted = { status: 'pending', begun: false, attempt: 2, abandoned: 1 };
      const third = await on.transactions.claim(identity, { waitMs });
      agrees('the attempt that was counted', third.locked, counted);
      // Nobody had begun it but this one, which dies before it writes anything.
      third.session.destroy(new Error('its process dies, too'));
      const fourth = await on.transactions.claim(identity, { waitMs });
      agrees('after the second death', fourth.locked, { ...died, attempt: 2, abandoned: 1 });
    },
  },
  {
    name: 'transaction mode: a counted attempt that nobody has begun is not taken for an abandoned one',
    prove: async (on) => {
      const identity = on.identity();
      await on.transactions.abandon(await on.transactions.own(identity));
      await on.transactions.reclaim(identity, await on.transactions.claim(identity));
      // The process that has counted it may die before it begins: whoever comes next begins it.
      const { locked } = await on.transactions.claim(identity);
      agrees('the attempt that was counted', locked, { attempt: 2, abandoned: 1, begun: false });
    },
  },
  {
    name: 'transaction mode: a release lets a retry in, without the rows, and the number keeps growing',
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      let owner = await on.transactions.own(identity);
      for (const attempt of [1, 2, 3]) {
        holds('the number of the attempt', owner.attempt, attempt);
        await on.effects.write(owner.session, identity);
        await on.transactions.released(owner);
        agrees('the released record', await on.record(identity), { status: 'error', responseStatus: null });
        holds('rows of the released attempt', await on.effects.count(identity), 0);
        holds('a look at it', (await on.transactions.look(identity)).state, 'released');
        owner = await on.transactions.retry(identity);
      }
      agrees('a released attempt is not counted as dead', await on.record(identity), { abandoned: 0 });
    },
  },
  {
    name: 'transaction mode: a first attempt whose handler never began leaves no record: a corrected payload may come',
    prove: async (on) => {
      const identity = on.identity();
      await on.transactions.released(await on.transactions.own(identity), { began: false });
      holds('the record of what never began', await on.record(identity), undefined);
      const corrected = await on.transactions.claim(on.withPayload(identity, 'a corrected payload'));
      agrees('a claim with a corrected payload', corrected.locked, { attempt: 1, begun: false });
      await on.close(corrected.session);
      // A later attempt keeps its record: something was begun under the key, and no number comes twice.
      const again = on.identity();
      await on.transactions.abandon(await on.transactions.own(again));
      await on.transactions.released(await on.transactions.retry(again), { began: false });
      agrees('a second attempt that never began', await on.record(again), { status: 'error', attempt: 2 });
    },
  },
];
