import type { CaseDefinition } from '../case-definition.js';
import { agrees, atOnce, holds, tally } from '../expectations.js';
import { LEASE_MS } from '../lease-calls.js';
import { CALLERS } from './claims.js';

/** Who gets a record of lease mode, and for how long. */
export const leases: readonly CaseDefinition[] = [
  {
    name: `lease mode: of ${CALLERS} claims at once one gets the record, and the others see it in flight`,
    prove: async (on) => {
      const identity = on.identity();
      const claim = (): Promise<string> => on.leases.claim(identity);
      const found = await Promise.all(Array.from({ length: CALLERS }, claim));
      holds(`${CALLERS} claims`, tally(found), { claimed: 1, 'in-flight': CALLERS - 1 });
      agrees('the record', await on.record(identity), { attempt: 1, status: 'pending', leased: true });
    },
  },
  {
    name: `lease mode: of ${CALLERS} that find a lease over one takes the record`,
    prove: async (on) => {
      const identity = on.identity();
      await on.leases.own(identity);
      await on.endLease(identity);
      const claim = (): Promise<string> => on.leases.claim(identity);
      const found = await Promise.all(Array.from({ length: CALLERS }, claim));
      holds(`${CALLERS} claims`, tally(found), { claimed: 1, 'in-flight': CALLERS - 1 });
      agrees('the record', await on.record(identity), { attempt: 2, abandoned: 1, leased: true });
    },
  },
  {
    name: 'lease mode: a lease that runs cannot be taken, and one that is over can, where the route says so',
    prove: async (on) => {
      const identity = on.identity();
      await on.leases.own(identity);
      const running = await on.version(identity);
      holds('a claim while the lease runs', await on.leases.claim(identity), 'in-flight');
      holds('the record after it', await on.version(identity), running);
      await on.endLease(identity);
      const alone = await on.leases.claim(identity, { retryAbandoned: false });
      holds('a claim that is not to take abandoned records', alone, 'unowned');
      agrees('a record that is left alone', await on.record(identity), { attempt: 1, abandoned: 0 });
      const { fence, resumed } = await on.leases.own(identity);
      holds('the attempt that takes it', { attempt: fence.attempt, resumed }, { attempt: 2, resumed: true });
      const { leaseMs = 0 } = (await on.record(identity)) ?? {};
      holds('its lease', (leaseMs ?? 0) > LEASE_MS / 2 && (leaseMs ?? 0) <= LEASE_MS, true);
    },
  },
  {
    name: 'lease mode: a record that a phase holds is in flight, its lease running or over, and nobody waits for it',
    prove: async (on) => {
      for (const lease of ['running', 'over']) {
        const identity = on.identity();
        const { fence } = await on.leases.own(identity);
        if (lease === 'over') await on.endLease(identity);
        const phase = await on.leases.phase(fence);
        holds(`a phase of the owner, the lease ${lease}`, phase !== undefined, true);
        const found = await atOnce('a claim beside a phase', on.leases.claim(identity));
        holds(`a claim beside a phase, the lease ${lease}`, found, 'in-flight');
        const alone = on.leases.claim(identity, { retryAbandoned: false });
        holds('and one that takes no abandoned records', await atOnce('a claim', alone), 'in-flight');
      }
    },
  },
  {
    name: 'lease mode: a lease is renewed by its owner only, and taken up again where nobody has taken the record',
    prove: async (on) => {
      const identity = on.identity();
      const { fence } = await on.leases.own(identity);
      await on.endLease(identity);
      holds('a renewal, the lease over', await on.leases.renew(fence), true);
      agrees('the record', await on.record(identity), { leased: true, attempt: 1 });
      await on.endLease(identity);
      const next = await on.leases.own(identity);
      await on.endLease(identity);
      holds('a renewal by the attempt before', await on.leases.renew(fence), false);
      agrees('the lease of the next', await on.record(identity), { leased: false, attempt: 2 });
      holds('a renewal by the next', await on.leases.renew(next.fence), true);
      agrees('its lease', await on.record(identity), { leased: true });
    },
  },
  {
    name: 'lease mode: attempts that die in a row are counted, and a record has no more of them than it may',
    prove: async (on) => {
      const identity = on.identity();
      await on.leases.own(identity);
      for (const dead of [1, 2]) {
        await on.endLease(identity);
        await on.leases.own(identity, { maxAttempts: 3 });
        agrees('the attempts that died', await on.record(identity), { abandoned: dead, attempt: dead + 1 });
      }
      await on.endLease(identity);
      const found = await on.leases.attempt(identity, { maxAttempts: 3 });
      const record = found.kind === 'not-claimed' ? found.record : undefined;
      agrees('a claim after three deaths', record, { state: 'unowned', abandoned: 2 });
      // An attempt that leaves the record by itself is no dead one.
      const { fence } = await on.leases.own(identity);
      holds('the owner leaves the record', await on.leases.abandon(fence), true);
      await on.leases.own(identity);
      agrees('the record after it', await on.record(identity), { abandoned: 0 });
    },
  },
  {
    name: 'lease mode: a release lets a retry in at once, and the number keeps growing',
    prove: async (on) => {
      const identity = on.identity();
      for (const attempt of [1, 2, 3]) {
        const { fence, resumed } = await on.leases.own(identity);
        holds('the attempt', { attempt: fence.attempt, resumed }, { attempt, resumed: false });
        holds('its release', await on.leases.release(fence), true);
        agrees('the released record', await on.record(identity), {
          status: 'error',
          leased: null,
          abandoned: 0,
        });
      }
      const first = await on.leases.own(on.identity());
      holds('an attempt that never began is forgotten', await on.leases.forget(first.fence), true);
    },
  },
  {
    name: 'both modes: they take turns on one key, and transaction mode takes nothing that lease mode has not finished',
    prove: async (on) => {
      const identity = on.identity();
      await on.transactions.abandon(await on.transactions.own(identity));
      const { fence } = await on.leases.own(identity, { retryAbandoned: false });
      holds('the number of the lease', fence.attempt, 2);
      for (const lease of ['running', 'over']) {
        if (lease === 'over') await on.endLease(identity);
        const { found } = await on.transactions.claim(identity);
        holds(
          `a claim in transaction mode, the lease ${lease}`,
          found,
          lease === 'over' ? 'unowned' : 'in-flight',
        );
      }
      agrees('the record after both', await on.record(identity), {
        status: 'pending',
        attempt: 2,
        abandoned: 1,
      });
      await on.leases.release(fence);
      const owner = await on.transactions.retry(identity);
      holds('the number in transaction mode', owner.attempt, 3);
      await on.transactions.completed(owner);
      holds('a claim by lease behind it', await on.leases.claim(identity), 'final');
    },
  },
];
