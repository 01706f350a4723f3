import type { Expected } from './explore.js';
import {
  acquireLeaseBy,
  completeLease,
  leaseClaimant,
  phaseOwner,
  phaseTaker,
  silentOwner,
  zombie,
} from './lease-parts.js';
import { Order } from './permutations.js';
import type { Player } from './player.js';
import { INVALID, outcomeOf, type Part, type Scenario } from './scenario.js';
import { acquireBy, answerOf, reap } from './transaction-parts.js';
import { SETTINGS } from './subject.js';

type Claimed = Awaited<ReturnType<typeof silentOwner>>;

/** What the order tells depends on the session's default: statements outside a transaction are of that kind. */
export interface ToldByLevel<Prepared> {
  readonly scenario: Scenario<Prepared>;
  readonly expectedAt: (isReadCommitted: boolean) => Expected;
}

const ofO = ({ O }: Readonly<Record<string, Player>>): Promise<Claimed> => {
  if (!O) throw new Error('no session O');
  return silentOwner(O);
};

/**
 * Who claims first has the lease. The turns of it: CLAIM, its commit, READ, COMPLETE, its commit.
 *
 * Above READ COMMITTED a claim that has waited for the record to be made is refused (40001) in place of finding it, and goes round: it
 * reads two turns later, less the one that it did not commit with.
 */
export const FIRST_LEASES: ToldByLevel<void> = {
  scenario: {
    name: 'lease mode: two first requests',
    parts: { A: leaseClaimant(5), B: leaseClaimant(5) },
    isSymmetric: true,
    effects: 'none',
  },
  expectedAt: (isReadCommitted) => (permutation) => {
    const order = new Order(permutation);
    const [owner, other] = order.at('A', 1) < order.at('B', 1) ? ['A', 'B'] : ['B', 'A'];
    const made = order.at(owner, 2);
    const isWaiting = order.at(other, 1) < made;
    if (isWaiting && order.at(other, 2) < made) return INVALID;
    const read = order.at(other, isWaiting && !isReadCommitted ? 4 : 3);
    const result = read < order.at(owner, 5) ? 'in-flight' : `replays ${owner}`;
    const results = { [owner]: 'executed#1', [other]: result };
    return outcomeOf({ A: results['A'] ?? '', B: results['B'] ?? '' }, 'completed#1', 0);
  },
};

/**
 * The lease of O is over. If it renews it before T claims, it has it still; if T claims first, everything that O writes touches
 * nothing. The turns of O: RENEW, its commit, COMPLETE, its commit; of T: CLAIM, its commit, READ, JOURNAL, COMPLETE, its commit.
 */
export const ZOMBIE: ToldByLevel<Claimed> = {
  scenario: {
    name: 'lease mode: an owner wakes up, and a retry takes over',
    parts: { O: zombie, T: leaseClaimant(6) },
    prepare: ofO,
    effects: 'none',
  },
  expectedAt: (isReadCommitted) => (permutation) => {
    const order = new Order(permutation);
    const [renews, claims] = [order.at('O', 1), order.at('T', 1)];
    if (renews < claims) {
      const T = order.at('T', 3) < order.at('O', 4) ? 'in-flight' : 'replays O';
      return outcomeOf({ O: 'renews, executed#1', T }, 'completed#1', 0);
    }
    const isWaiting = renews < order.at('T', 2);
    if (isWaiting && order.at('O', 2) < order.at('T', 2)) return INVALID;
    // A renewal that has waited in vain keeps the lock that it has waited for until its own transaction ends.
    if (isWaiting && isReadCommitted && order.at('T', 6) < order.at('O', 2)) return INVALID;
    return outcomeOf({ O: 'has lost it, stale', T: 'executed#2' }, 'completed#2', 0);
  },
};

/**
 * The lease of O is over, and it begins its phase: PHASE, JOURNAL_PHASE, COMMIT. Its lock proves that it lives; a takeover comes
 * before all of it, or behind, and then finds it in the journal. The turns of T: CLAIM, its commit, READ, and JOURNAL or UNHELD.
 */
export const PHASE_AND_TAKEOVER: ToldByLevel<Claimed> = {
  scenario: {
    name: 'lease mode: the commit of a phase, and a retry takes over',
    parts: { O: phaseOwner, T: phaseTaker },
    prepare: ofO,
    effects: 'before-record',
  },
  expectedAt: () => (permutation) => {
    const order = new Order(permutation);
    const [begins, commits] = [order.at('O', 1), order.at('O', 3)];
    if (order.at('T', 1) < begins) {
      const taken = order.at('T', 2);
      const isWaiting = begins < taken;
      if (isWaiting && order.at('O', 2) < taken) return INVALID;
      // As a renewal that has waited in vain: until the ROLLBACK, which T's own phase waits for.
      if (isWaiting && order.at('T', 6) < order.at('O', 2)) return INVALID;
      return outcomeOf({ O: 'phase stale', T: 'phase done, executed#2' }, 'completed#2', 1);
    }
    // Held until its commit; found unheld after it, T claims once more.
    return order.at('T', 4) < commits
      ? outcomeOf({ O: 'phase done', T: 'in-flight' }, 'pending#1', 1)
      : outcomeOf({ O: 'phase done', T: 'phase in the journal, executed#2' }, 'completed#2', 1);
  },
};

interface OldLife {
  readonly attempt: number;
  readonly born: string;
}

/** The late release of an attempt whose connection was lost: RELEASE, COMMIT. */
const lateRelease: Part<OldLife> = {
  turns: 2,
  play: async (self, life) => {
    const { keyHash } = self.subject;
    const session = self.open();
    const late = { keyHash, ...life, error: new Error('late'), waitMs: SETTINGS.acquireTimeoutMs };
    await self.records.giveBack(session, late);
    session.release();
    return 'done';
  },
};

/** The record is reaped and its key claimed anew: REAP, COMMIT, CLAIM, its commit, READ. */
const newLife: Part<unknown> = {
  turns: 5,
  play: async (self) => {
    const reaped = await reap(self);
    const acquired = await acquireLeaseBy(self);
    const result = acquired.kind === 'claimed' ? `claims#${acquired.fence.attempt}` : answerOf(acquired);
    return `reaped ${reaped}, ${result}`;
  },
};

/** A release of an old life leaves a new one alone, although both count their attempts from one. */
export const LATE_RELEASE: Scenario<OldLife> = {
  name: 'a late release, and another life of the key',
  parts: { Z: lateRelease, N: newLife },
  prepare: async ({ Z }, ground) => {
    if (!Z) throw new Error('no session Z');
    const acquired = await acquireBy(Z);
    if (acquired.kind !== 'owned') throw new Error(acquired.kind);
    await acquired.session.rollbackAndRelease(SETTINGS.acquireTimeoutMs);
    await ground.expire(Z.subject);
    const { born } = await ground.look(Z.subject);
    return { attempt: acquired.attempt, born: born ?? '' };
  },
  effects: 'none',
};

const REAPED = 'Z done, N reaped 1, claims#1; pending#1, 0 effects';
const TAKEN = 'Z done, N reaped 0, claims#2; pending#2, 0 effects';
const REFUSED = 'Z done, N reaped 0, in-flight; error#1, 0 effects';

export const LATE_RELEASE_TABLE: Readonly<Record<string, string>> = {
  // Released, and reaped all the same: it is past its time.
  ZZNNNNN: REAPED,
  // Held by the release when the reaper comes, and free when the claim does: it begins its second attempt.
  ZNZNNNN: TAKEN,
  ZNNZNNN: TAKEN,
  // Held by the release when the claim comes, too.
  ZNNNZNN: REFUSED,
  ZNNNNZN: REFUSED,
  ZNNNNNZ: REFUSED,
  // The release waits for the reaper, and finds nothing.
  NZZNNNN: INVALID,
  NZNZNNN: REAPED,
  NZNNZNN: REAPED,
  NZNNNZN: REAPED,
  NZNNNNZ: REAPED,
  // It finds nothing, or another life.
  NNZZNNN: REAPED,
  NNZNZNN: REAPED,
  NNZNNZN: REAPED,
  NNZNNNZ: REAPED,
  NNNZZNN: REAPED,
  NNNZNZN: REAPED,
  NNNZNNZ: REAPED,
  NNNNZZN: REAPED,
  NNNNZNZ: REAPED,
  NNNNNZZ: REAPED,
};

/** The late outcome of a lease that is over: COMPLETE, its commit. */
const lateOutcome: Part<Claimed> = {
  turns: 2,
  play: (self, { fence }) => completeLease(self, fence),
};

/**
 * A person gives the abandoned record back and removes it, and its key is claimed anew: LOCK, RELEASE, REMOVE, COMMIT, CLAIM, its commit,
 * READ. Where LOCK does not get it: LOCK, ROLLBACK, CLAIM, its commit, READ.
 */
const removedAndNew: Part<unknown> = {
  turns: 7,
  play: async (self) => {
    const { keyHash } = self.subject;
    const session = self.open();
    await self.admin.begin(session);
    if (await self.admin.lock(session, keyHash, ['abandoned'])) {
      await self.admin.release(session, keyHash, 'keep');
      await self.admin.remove(session, keyHash);
      await self.admin.commit(session);
      session.release();
    } else await session.rollbackAndRelease(SETTINGS.acquireTimeoutMs);
    const acquired = await acquireLeaseBy(self);
    return acquired.kind === 'claimed' ? `claims#${acquired.fence.attempt}` : answerOf(acquired);
  },
};

/** An outcome of an old life is not taken for that of a new one, although both are of attempt one. */
export const LATE_OUTCOME: ToldByLevel<Claimed> = {
  scenario: {
    name: 'lease mode: a late outcome, and another life of the key',
    parts: { O: lateOutcome, N: removedAndNew },
    prepare: ofO,
    effects: 'none',
  },
  expectedAt: () => (permutation) => {
    const order = new Order(permutation);
    const [completes, commits] = [order.at('O', 1), order.at('O', 2)];
    const [locks, removed] = [order.at('N', 1), order.at('N', 4)];
    if (completes < locks) {
      const N = order.at('N', 5) < commits ? 'in-flight' : 'replays O';
      return outcomeOf({ O: 'executed#1', N }, 'completed#1', 0);
    }
    if (completes < removed && commits < removed) return INVALID;
    return outcomeOf({ O: 'stale', N: 'claims#1' }, 'pending#1', 0);
  },
};
