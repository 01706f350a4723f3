import type { AttemptIdentity } from '../../../store/identity.js';
import type { Fence } from '../../../store/lease.store.js';
import type { CaseDefinition } from '../case-definition.js';
import { agrees, holds } from '../expectations.js';
import { entryOf } from '../lease-calls.js';
import type { Stage } from '../stage.js';

/** That a write is let through for the attempt that holds the record, and for no other. */
export const leaseLife: readonly CaseDefinition[] = [
  {
    name: 'lease mode: an attempt that is fenced out writes nothing, whatever it writes',
    prove: async (on) => {
      const ways: Record<string, (identity: AttemptIdentity, fence: Fence) => Promise<unknown>> = {
        'was taken over': async (identity) => {
          await on.endLease(identity);
          return on.leases.own(identity);
        },
        'has left the record': (_identity, fence) => on.leases.abandon(fence),
        'has given the key back': (_identity, fence) => on.leases.release(fence),
        'has completed the record': (_identity, fence) => on.leases.complete(fence),
      };
      for (const [way, happen] of Object.entries(ways)) {
        const identity = on.identity();
        const { fence } = await on.leases.own(identity);
        await happen(identity, fence);
        await expectFencedOut(on, identity, fence, `an attempt that ${way}`);
      }
    },
  },
  {
    name: 'lease mode: another life of the key does not pass the fence',
    prove: async (on) => {
      const identity = on.identity();
      const first = await on.leases.own(identity);
      await on.remove(identity);
      const second = await on.leases.own(identity);
      holds('the number in the second life', second.fence.attempt, first.fence.attempt);
      await expectFencedOut(on, identity, first.fence, 'an attempt of a former life');
      holds(
        'whether its write stands',
        await on.leases.store.isWritten(await on.open(on.leases.store), first.fence),
        false,
      );
      holds('a renewal in the second life', await on.leases.renew(second.fence), true);
    },
  },
  {
    name: 'lease mode: an unfinished record never expires: the next attempt goes on from its journal',
    prove: async (on) => {
      const identity = on.identity();
      const { fence } = await on.leases.own(identity);
      await on.leases.journal(fence, entryOf('charge'));
      await on.expire(identity);
      holds('a claim while the lease runs', await on.leases.claim(identity), 'in-flight');
      await on.endLease(identity);
      const other = on.withPayload(identity, 'another payload');
      holds('another payload, past its time', await on.leases.claim(other), 'reused');
      const next = await on.leases.own(identity);
      agrees('the next attempt', next, { resumed: true, journal: [entryOf('charge')] });
      holds('its life', next.fence.born, fence.born);
    },
  },
  {
    name: 'lease mode: an expired outcome begins another life, of which nothing is journaled',
    prove: async (on) => {
      const identity = on.identity();
      const { fence } = await on.leases.own(identity);
      await on.leases.journal(fence, entryOf('charge'));
      await on.leases.complete(fence);
      await on.expire(identity);
      const other = on.withPayload(identity, 'another payload');
      const next = await on.leases.own(other);
      agrees('the next attempt', next, { resumed: false, journal: [] });
      holds('its number, which only grows', next.fence.attempt, 2);
      holds('another life', next.fence.born === fence.born, false);
      holds(
        'an entry of the new life',
        await on.leases.journal(next.fence, entryOf('charge', { attempt: 2 })),
        true,
      );
      holds('the payload of the former one', await on.leases.claim(identity), 'reused');
    },
  },
  {
    name: 'lease mode: a request is kept as it came until the outcome is final, for whoever finishes the record',
    prove: async (on) => {
      const identity = on.identity({ scope: 'alice' });
      const request = Buffer.from([0, 255, 123, 10, 0]);
      const { fence } = await on.leases.own(identity, { request });
      holds('records to finish while the lease runs', (await on.leases.abandoned()).length, 0);
      await on.endLease(identity);
      const waiting = await on.leases.abandoned();
      holds(
        'records to finish',
        waiting.map((record) => [record.identity, record.request]),
        [[identity, request]],
      );
      await on.leases.complete(fence);
      holds('records to finish when it is final', (await on.leases.abandoned()).length, 0);
    },
  },
];

/** Tries every write. */
async function expectFencedOut(
  on: Stage,
  identity: AttemptIdentity,
  fence: Fence,
  who: string,
): Promise<void> {
  const before = await on.version(identity);
  const writes: Record<string, () => Promise<unknown>> = {
    renewal: () => on.leases.renew(fence),
    'journal entry': () => on.leases.journal(fence, entryOf('late')),
    phase: async () => (await on.leases.phase(fence)) !== undefined,
    outcome: () => on.leases.complete(fence, { status: 200, headers: {}, body: Buffer.from('late') }),
    release: () => on.leases.release(fence),
    'leaving of the record': () => on.leases.abandon(fence),
    removal: () => on.leases.forget(fence),
  };
  for (const [what, write] of Object.entries(writes)) {
    const isWritten = await write();
    holds(`the record after a ${what} of ${who}`, await on.version(identity), before);
    holds(`a ${what} of ${who}`, isWritten, false);
  }
}
