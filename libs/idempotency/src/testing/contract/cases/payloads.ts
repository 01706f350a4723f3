import type { CaseDefinition } from '../case-definition.js';
import { atOnce, holds } from '../expectations.js';
import { LEASE_MS } from '../lease-calls.js';
import type { Stage } from '../stage.js';

const ANOTHER = 'another payload';

/** Whether one request is taken for another. */
export const payloads: readonly CaseDefinition[] = [
  {
    name: 'transaction mode: another payload is told apart also while the record is held, and leaves no trace on it',
    prove: async (on) => {
      const identity = on.identity();
      const other = on.withPayload(identity, ANOTHER);
      const owner = await on.transactions.own(identity);
      const before = await on.version(identity);
      const claim = await atOnce('a claim of a held record', on.transactions.claim(other));
      holds('another payload while the record is held', claim.found, 'reused');
      holds('the record after it', await on.version(identity), before);
      await on.transactions.completed(owner);
      const final = await on.version(identity);
      holds('another payload when the record is final', (await on.transactions.claim(other)).found, 'reused');
      holds('a look with another payload', (await on.transactions.look(other)).state, 'reused');
      holds('the record after both', await on.version(identity), final);
    },
  },
  {
    name: 'transaction mode: another payload never takes a record over that is free to run again',
    prove: async (on) => {
      const free: Record<string, (on: Stage) => Promise<ReturnType<Stage['identity']>>> = {
        'an abandoned record': async () => {
          const identity = on.identity();
          await on.transactions.abandon(await on.transactions.own(identity));
          return identity;
        },
        'a released record': async () => {
          const identity = on.identity();
          await on.transactions.released(await on.transactions.own(identity));
          return identity;
        },
      };
      for (const [what, make] of Object.entries(free)) {
        const identity = await make(on);
        const before = await on.version(identity);
        const { found } = await on.transactions.claim(on.withPayload(identity, ANOTHER));
        holds(`another payload at ${what}`, found, 'reused');
        holds(`${what} after it`, await on.version(identity), before);
        holds(`its own payload at ${what}`, (await on.transactions.claim(identity)).found, 'locked');
      }
    },
  },
  {
    name: 'lease mode: another payload is told apart, its lease running or over, and changes nothing',
    prove: async (on) => {
      const identity = on.identity();
      const other = on.withPayload(identity, ANOTHER);
      const { fence } = await on.leases.own(identity);
      for (const lease of ['running', 'over']) {
        if (lease === 'over') await on.endLease(identity);
        const before = await on.version(identity);
        holds(`another payload, its lease ${lease}`, await on.leases.claim(other), 'reused');
        holds('the record after it', await on.version(identity), before);
      }
      holds('a renewal by the owner', await on.leases.renew(fence, LEASE_MS), true);
    },
  },
  {
    name: 'both modes: one key under two scopes, or in two namespaces, is so many records',
    prove: async (on) => {
      const identity = on.identity({ scope: 'alice' });
      const { key } = identity;
      const others = [
        on.identity({ key, scope: 'bob' }),
        on.identity({ key, namespace: `${on.namespace}-2` }),
      ];
      await on.transactions.completed(await on.transactions.own(identity));
      for (const other of others) {
        const where = JSON.stringify({ scope: other.scope, namespace: other.namespace });
        holds(`a look at the same key in ${where}`, (await on.transactions.look(other)).state, 'absent');
        holds(`a claim of the same key in ${where}`, (await on.transactions.claim(other)).found, 'locked');
      }
      const leased = on.identity({ key, scope: 'carol' });
      holds('a claim by lease of the same key', await on.leases.claim(leased), 'claimed');
      const found = await on.transactions.claim(identity);
      holds('the record of the first', found.found, 'final');
    },
  },
];
