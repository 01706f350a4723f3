import type { Fence } from '../../../store/lease.store.js';
import type { Session } from '../../../store/session.js';
import type { CaseDefinition } from '../case-definition.js';
import { agrees, failure, holds } from '../expectations.js';
import { entryOf } from '../lease-calls.js';
import type { Stage } from '../stage.js';

/** What attempts of lease mode leave to those after them. */
export const journal: readonly CaseDefinition[] = [
  {
    name: 'lease mode: journal entries come back as written, in their order, each once, and renew the lease',
    prove: async (on) => {
      const identity = on.identity();
      const { fence } = await on.leases.own(identity);
      const entries = [
        entryOf('z', { contentType: null, body: Buffer.alloc(0) }),
        entryOf('ü \u{1F6D2}', { position: 2, raised: true, body: Buffer.from([0, 1, 254, 255]) }),
        entryOf('a', { position: 3, contentType: 'application/octet-stream' }),
      ];
      await on.endLease(identity);
      for (const entry of entries.toReversed())
        holds('an entry', await on.leases.journal(fence, entry), true);
      agrees('the record behind them', await on.record(identity), { leased: true });
      // The answer to the first try was lost: what was written first stands.
      const again = entryOf('z', { body: Buffer.from('"another result"') });
      holds('an entry that is sent again', await on.leases.journal(fence, again), true);
      await on.endLease(identity);
      const next = await on.leases.own(identity);
      holds('the journal, as the next attempt gets it', next.journal, entries);
    },
  },
  {
    name: "lease mode: a phase's rows, its entry and its lease are one commit, and happen once",
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const { fence } = await on.leases.own(identity);
      await on.endLease(identity);
      const first = await phaseOf(on, fence);
      await on.effects.write(first, identity);
      holds('rows before its COMMIT', await on.effects.count(identity), 0);
      holds('the phase', (await on.leases.commitPhase(first, fence, entryOf('reserve'))).kind, 'committed');
      holds('rows behind it', await on.effects.count(identity), 1);
      agrees('the record behind it', await on.record(identity), { leased: true });
      holds('what became of it', await on.leases.phaseSettled(fence, 'reserve'), true);
      // Its answer was lost, and it is done again: no rows come twice.
      const again = on.identity();
      const second = await phaseOf(on, fence);
      await on.effects.write(second, again);
      const { kind } = await on.leases.commitPhase(second, fence, entryOf('reserve'));
      holds('rows of a phase that is done already', await on.effects.count(again), 0);
      holds('a phase that is done already', kind, 'refused');
      await on.endLease(identity);
      const { journal: kept } = await on.leases.own(identity);
      holds('the journal', kept, [entryOf('reserve', { kind: 'phase' })]);
    },
  },
  {
    name: 'lease mode: a phase that is lost before its COMMIT leaves nothing, and that is found out',
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const { fence } = await on.leases.own(identity);
      const session = await phaseOf(on, fence);
      await on.effects.write(session, identity);
      const { kind } = await on.leases.commitPhase(session, fence, entryOf('reserve'), (what) => {
        if (what === 'record') session.destroy(new Error('the network fails'));
      });
      holds('what became of it', await on.leases.phaseSettled(fence, 'reserve'), false);
      holds('its rows', await on.effects.count(identity), 0);
      holds('a COMMIT that was not sent is not committed', kind === 'committed', false);
    },
  },
  {
    name: 'lease mode: a phase whose record was taken over is not committed, and nothing of its rows',
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const { fence } = await on.leases.own(identity);
      // A session that has its transaction, and no lock: as one whose phase was ended by the server and begun anew by a proxy.
      const session = await on.open(on.leases.store);
      await session.query({ text: on.transactions.store.sql.BEGIN });
      await on.effects.write(session, identity);
      await on.endLease(identity);
      await on.leases.own(identity);
      const { kind } = await on.leases.commitPhase(session, fence, entryOf('reserve'));
      holds('rows of the phase', await on.effects.count(identity), 0);
      holds('its COMMIT', kind, 'refused');
      holds('a phase of it', (await on.leases.phase(fence)) === undefined, true);
    },
  },
];

async function phaseOf(on: Stage, fence: Fence): Promise<Session> {
  const session = await on.leases.phase(fence);
  if (!session) throw failure('a phase of the owner: not begun');
  return session;
}
