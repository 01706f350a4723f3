import { acquireLease } from '../../libs/idempotency/src/engine/acquire-lease.js';
import type { Answered } from '../../libs/idempotency/src/engine/answered.js';
import type { JournalEntry } from '../../libs/idempotency/src/store/journal-entry.js';
import type { Fence, LeaseClaim } from '../../libs/idempotency/src/store/lease.store.js';
import type { Player } from './player.js';
import type { Part } from './scenario.js';
import { answerOf } from './transaction-parts.js';
import { answerBy, LEASE_POLICY, PHASE_BOUNDS, SETTINGS } from './subject.js';

type Claimed = Extract<LeaseClaim, { kind: 'claimed' }>;

/** A lease of no time: over as soon as it begins. */
const NO_TIME = 0;

export function acquireLeaseBy(self: Player, leaseMs = LEASE_POLICY.leaseMs): Promise<Claimed | Answered> {
  const request = { identity: self.subject.identity() };
  const parts = { store: self.leases, settings: SETTINGS };
  return acquireLease(parts, request, { ...LEASE_POLICY, leaseMs });
}

/** For a preparation: the first attempt of a record, whose owner has been silent for longer than its lease. */
export async function silentOwner(self: Player): Promise<Claimed> {
  const acquired = await acquireLeaseBy(self, NO_TIME);
  if (acquired.kind !== 'claimed') throw new Error(`not claimed: ${acquired.kind}`);
  return acquired;
}

export async function completeLease(self: Player, fence: Fence): Promise<string> {
  const outcome = { status: 'completed', response: answerBy(self.name) } as const;
  const done = await self.untilAnswered((session) =>
    self.leases.complete(session, fence, outcome, LEASE_POLICY.ttlMs),
  );
  return done === false ? 'stale' : `executed#${fence.attempt}`;
}

/** A request: claims, and completes. What its handler does is outside the database. */
export const leaseClaimant = (turns: number): Part<unknown> => ({
  turns,
  play: async (self) => {
    const acquired = await acquireLeaseBy(self);
    return acquired.kind === 'claimed' ? completeLease(self, acquired.fence) : answerOf(acquired);
  },
});

/** An owner that wakes up, renews its lease, and completes, whatever its renewal came to. */
export const zombie: Part<Claimed> = {
  turns: 4,
  play: async (self, { fence }) => {
    const { leaseMs } = LEASE_POLICY;
    const isHeld = await self.untilAnswered((session) => self.leases.renew(session, fence, leaseMs));
    const result = await completeLease(self, fence);
    return `${isHeld ? 'renews' : 'has lost it'}, ${result}`;
  },
};

const PHASE: Omit<JournalEntry, 'attempt'> = {
  name: 'order',
  position: 1,
  kind: 'phase',
  raised: false,
  contentType: 'application/json',
  body: Buffer.from('"done"'),
};

/** The effect in a phase, whose commit renews the lease for no time: it may be taken over from there. */
async function phaseBy(self: Player, fence: Fence): Promise<'done' | 'stale'> {
  const session = self.open();
  if (!(await self.leases.openPhase(session, fence, PHASE_BOUNDS))) {
    await session.rollbackAndRelease(SETTINGS.acquireTimeoutMs);
    return 'stale';
  }
  await self.charge(session);
  const entry = { ...PHASE, attempt: fence.attempt };
  const { kind } = await self.leases.commitPhase(session, fence, entry, NO_TIME, () => undefined);
  if (kind === 'committed') session.release();
  else await session.rollbackAndRelease(SETTINGS.acquireTimeoutMs);
  return kind === 'committed' ? 'done' : 'stale';
}

/** An owner that wakes up and does its phase. */
export const phaseOwner: Part<Claimed> = {
  turns: 3,
  play: async (self, { fence }) => `phase ${await phaseBy(self, fence)}`,
};

/** Takes over, does the phase unless the journal has it, and completes. */
export const phaseTaker: Part<unknown> = {
  turns: 10,
  play: async (self) => {
    const acquired = await acquireLeaseBy(self);
    if (acquired.kind !== 'claimed') return answerOf(acquired);
    const isDone = acquired.journal.some(({ name }) => name === PHASE.name);
    const phase = isDone ? 'in the journal' : await phaseBy(self, acquired.fence);
    return `phase ${phase}, ${await completeLease(self, acquired.fence)}`;
  },
};
