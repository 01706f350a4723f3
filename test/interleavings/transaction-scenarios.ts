import type { Expected } from './explore.js';
import { Order } from './permutations.js';
import { INVALID, outcomeOf, type Part, type Scenario } from './scenario.js';
import { claimant, deathOf, failing, reaper } from './transaction-parts.js';
import { acquireBy, completeBy } from './transaction-parts.js';
import { SETTINGS } from './subject.js';

/** A scenario, and what the order alone tells of it. */
export interface Told<Prepared = void> {
  readonly scenario: Scenario<Prepared>;
  readonly expected: Expected;
}

// The turns of every request: CLAIM, COMMIT AND CHAIN, LOCK_OR_READ.
const CLAIM = 1;
const VISIBLE = 2;
const LOOK = 3;

/** Who has a turn before the other one has it. */
const first = (order: Order, turn: number): readonly ['A' | 'B', 'A' | 'B'] =>
  order.at('A', turn) < order.at('B', turn) ? ['A', 'B'] : ['B', 'A'];

/**
 * A claim waits for whoever is writing the record just then: who makes it, until it is visible, and the owner, from its outcome until that
 * is committed. Whoever waits cannot have the next turn before.
 *
 * @param ends the turn of the owner's COMMIT; the one before writes its outcome.
 */
function overtakesItsWait(order: Order, ends: Readonly<Record<'A' | 'B', number>>): boolean {
  const [maker, second] = first(order, CLAIM);
  const [owner, other] = first(order, LOOK);
  const overtakes = (waiting: string, writer: string, begins: number, end: number): boolean =>
    order.at(writer, begins) < order.at(waiting, CLAIM) &&
    order.at(waiting, CLAIM) < order.at(writer, end) &&
    order.at(waiting, CLAIM + 1) < order.at(writer, end);
  return overtakes(second, maker, CLAIM, VISIBLE) || overtakes(other, owner, ends[owner] - 1, ends[owner]);
}

const both = (results: Readonly<Partial<Record<'A' | 'B', string>>>): Record<string, string> => ({
  A: results.A ?? '',
  B: results.B ?? '',
});

/** Who looks first has the record, whoever made it. The other one is refused until its commit, and replays from then on. */
export const SAME_PAYLOAD: Told = {
  scenario: {
    name: 'two requests with the same payload',
    parts: { A: claimant({ turns: 6, effect: 'a-turn' }), B: claimant({ turns: 6, effect: 'a-turn' }) },
    isSymmetric: true,
    effects: 'with-record',
  },
  expected: (permutation) => {
    const order = new Order(permutation);
    if (overtakesItsWait(order, { A: 6, B: 6 })) return INVALID;
    const [owner, other] = first(order, LOOK);
    const isEarly = order.at(other, LOOK) < order.at(owner, 6);
    const results = both({ [owner]: 'executed#1', [other]: isEarly ? 'in-flight' : `replays ${owner}` });
    return outcomeOf(results, 'completed#1', 1);
  },
};

/**
 * B waits for the row: CLAIM, its commit, LOCK_WAITING, READ, and COMPLETE and COMMIT where it gets it. It never hears that A is in flight.
 */
export const WAITING: Told = {
  scenario: {
    name: 'a request, and one that waits for it',
    parts: { A: claimant({ turns: 5 }), B: claimant({ turns: 6, waits: true }) },
    effects: 'with-record',
  },
  expected: (permutation) => {
    const order = new Order(permutation);
    if (overtakesItsWait(order, { A: 5, B: 6 })) return INVALID;
    const [owner] = first(order, LOOK);
    const ends = order.at(owner, owner === 'A' ? 5 : 6);
    if (owner === 'B') {
      const A = order.at('A', LOOK) < ends ? 'in-flight' : 'replays B';
      return outcomeOf({ A, B: 'executed#1' }, 'completed#1', 1);
    }
    if (order.at('B', LOOK) < ends && order.at('B', LOOK + 1) < ends) return INVALID;
    return outcomeOf({ A: 'executed#1', B: 'replays A' }, 'completed#1', 1);
  },
};

/** The record is of the payload that made it: the other one is key reuse, at every moment. */
export const OTHER_PAYLOAD: Told = {
  scenario: {
    name: 'two requests with different payloads',
    parts: { A: claimant({ turns: 5 }), B: claimant({ turns: 5, payload: 'another' }) },
    isSymmetric: true,
    effects: 'with-record',
  },
  expected: (permutation) => {
    const order = new Order(permutation);
    const [owner, other] = first(order, CLAIM);
    if (overtakesItsWait(order, { A: 5, B: 5 })) return INVALID;
    return outcomeOf(both({ [owner]: 'executed#1', [other]: 'reused' }), 'completed#1', 1);
  },
};

/** A failed handler leaves no effect; whoever looks after its commit runs as the next attempt. */
export const RELEASE_AND_RETRY: Told = {
  scenario: {
    name: 'a request that fails and gives the key back, and a retry',
    parts: { A: failing({ turns: 6, effect: 'a-turn' }), B: claimant({ turns: 10 }) },
    effects: 'with-record',
  },
  expected: (permutation) => {
    const order = new Order(permutation);
    const ends = { A: 6, B: 5 };
    if (overtakesItsWait(order, ends)) return INVALID;
    const [owner, other] = first(order, LOOK);
    const isEarly = order.at(other, LOOK) < order.at(owner, ends[owner]);
    if (owner === 'B') {
      const results = { A: isEarly ? 'in-flight' : 'replays B', B: 'executed#1' };
      return outcomeOf(results, 'completed#1', 1);
    }
    return isEarly
      ? outcomeOf({ A: 'released', B: 'in-flight' }, 'error#1', 0)
      : outcomeOf({ A: 'released', B: 'executed#2' }, 'completed#2', 1);
  },
};

/**
 * A's process dies at any moment. Its lock goes with it, and with the lock what it has written: the retry B, whose messages are not
 * taken apart, takes over, and counts the attempt only when A had begun one.
 */
export const DEATH_AND_RETRY: Told = {
  scenario: {
    name: 'a request whose process dies, and a retry',
    parts: {
      A: claimant({ turns: 6, effect: 'a-turn' }),
      K: deathOf('A'),
      B: claimant({ turns: 4, grain: 'message' }),
    },
    effects: 'with-record',
  },
  expected: (permutation) => {
    const order = new Order(permutation);
    const death = order.at('K', 1);
    /** When A does it, if it lives to. */
    const ofA = (turn: number): number => {
      const at = order.at('A', turn);
      return at < death ? at : Infinity;
    };
    const [effect, completes, commits] = [ofA(4), ofA(5), ofA(6)];
    const of = (results: { readonly A: string; readonly B: string }, record: string, effects = 1): string =>
      outcomeOf({ A: results.A, K: 'killed it', B: results.B }, record, effects);

    const claimOfB = order.at('B', 1);
    const writes: [from: number, until: number][] = [
      [ofA(CLAIM), Math.min(ofA(VISIBLE), death)],
      [completes, Math.min(commits, death)],
    ];
    const waitsUntil = writes.find(([from, until]) => from < claimOfB && claimOfB < until)?.[1];
    if (waitsUntil !== undefined && order.at('B', 2) < waitsUntil) return INVALID;
    /** With its claim, or when that has waited. */
    const lookOfB = waitsUntil ?? claimOfB;

    if (lookOfB < ofA(LOOK)) {
      const A = ofA(LOOK) === Infinity ? 'lost' : ofA(LOOK) < order.at('B', 2) ? 'in-flight' : 'replays B';
      return of({ A, B: 'executed#1' }, 'completed#1');
    }
    if (commits < Infinity) {
      return of({ A: 'executed#1', B: lookOfB < commits ? 'in-flight' : 'replays A' }, 'completed#1');
    }
    // Between its effect and its commit A cannot know what became of it.
    const A = effect === Infinity ? 'lost' : 'unknown';
    return lookOfB < death
      ? of({ A, B: 'in-flight' }, 'pending#1', 0)
      : of({ A, B: 'executed#2' }, 'completed#2');
  },
};

/** For a preparation: a record that is past its retention. What it was about is forgotten. */
export const expiredRecord: Scenario['prepare'] = async ({ A }, ground) => {
  if (!A) throw new Error('no session A');
  const acquired = await acquireBy(A);
  if (acquired.kind !== 'owned') throw new Error(acquired.kind);
  await completeBy(A, acquired);
  await ground.expire(A.subject);
};

/** For a preparation: a record whose owner had begun, and is gone. */
export const abandonedRecord: Scenario['prepare'] = async ({ A }) => {
  if (!A) throw new Error('no session A');
  const acquired = await acquireBy(A);
  if (acquired.kind !== 'owned') throw new Error(acquired.kind);
  await acquired.session.rollbackAndRelease(SETTINGS.acquireTimeoutMs);
};

/** Who gets the record first has it: the request, which makes it new, or the reaper, which deletes it. */
export const EXPIRED_AND_REAPER: Told = {
  scenario: {
    name: 'an expired record, a request and the reaper',
    parts: { A: claimant({ turns: 10 }), R: reaper },
    prepare: expiredRecord,
    effects: 'with-record',
  },
  expected: (permutation) => {
    const order = new Order(permutation);
    const [begins, ends] = [order.at('R', 1), order.at('R', 2)];
    const [claims, looks] = [order.at('A', CLAIM), order.at('A', LOOK)];
    // A row that is being deleted is waited for: it may stay.
    if (begins < claims && claims < ends && order.at('A', CLAIM + 1) < ends) return INVALID;
    if (claims < begins && looks < begins) {
      return outcomeOf({ A: 'executed#2', R: 'reaped 0' }, 'completed#2', 1);
    }
    if (claims < begins && looks < ends) {
      return outcomeOf({ A: 'in-flight', R: 'reaped 1' }, 'no record', 0);
    }
    return outcomeOf({ A: 'executed#1', R: 'reaped 1' }, 'completed#1', 1);
  },
};

/** An owner that has the record before the first turn, and what it needs to be asked after. */
interface Held {
  readonly owned: Extract<Awaited<ReturnType<typeof acquireBy>>, { kind: 'owned' }>;
}

export const heldByA: Scenario<Held>['prepare'] = async ({ A }) => {
  if (!A) throw new Error('no session A');
  const owned = await acquireBy(A);
  if (owned.kind !== 'owned') throw new Error(owned.kind);
  return { owned };
};

/** The owner from its effect on: effect, COMPLETE, COMMIT. Nobody hears the answer. */
export const completing: Part<Held> = {
  turns: 3,
  play: async (self, { owned }) => {
    await self.charge(owned.session, 'a-turn');
    return completeBy(self, owned);
  },
};

/** The same in one message. */
export const completingAtOnce: Part<Held> = {
  turns: 1,
  grain: 'message',
  play: async (self, { owned }) => {
    await self.charge(owned.session);
    return completeBy(self, owned);
  },
};

/** Asks what became of A's attempt, on another connection. */
export const asking: Part<Held> = {
  turns: 2,
  play: async (self, { owned: { attempt, born, xid } }) => {
    const { keyHash } = self.subject;
    const session = self.open();
    const asked = { keyHash, attempt, born, xid };
    const answer = await self.records.settled(session, asked, SETTINGS.acquireTimeoutMs);
    session.release();
    return `hears ${answer}`;
  },
};

/** Asked while COMMIT is on its way, the question waits for it: it never says of a commit that it is not. */
export const LOST_COMMIT: Scenario<Held> = {
  name: 'a COMMIT whose answer is lost, and the question after it',
  parts: { A: completing, S: asking },
  prepare: heldByA,
  effects: 'with-record',
};

export const LOST_COMMIT_TABLE: Readonly<Record<string, string>> = {
  AAASS: 'A executed#1, S hears committed; completed#1, 1 effect',
  AASAS: 'A executed#1, S hears committed; completed#1, 1 effect',
  AASSA: INVALID,
  ASAAS: 'A executed#1, S hears committed; completed#1, 1 effect',
  ASASA: INVALID,
  ASSAA: INVALID,
  SAAAS: 'A executed#1, S hears committed; completed#1, 1 effect',
  SAASA: INVALID,
  SASAA: INVALID,
  SSAAA: INVALID,
};

/** The same where A may die in the midst of it. */
export const LOST_COMMIT_OR_DEATH: Told<Held> = {
  scenario: {
    name: 'a COMMIT whose answer is lost or that was never sent, and the question after it',
    parts: { A: completing, K: deathOf('A'), S: asking },
    prepare: heldByA,
    effects: 'with-record',
  },
  expected: (permutation) => {
    const order = new Order(permutation);
    const [death, commit] = [order.at('K', 1), order.at('A', 3)];
    if (order.at('S', 2) < Math.min(death, commit)) return INVALID;
    const of = (A: string, S: string): Record<string, string> => ({ A, K: 'killed it', S: `hears ${S}` });
    if (commit < death) return outcomeOf(of('executed#1', 'committed'), 'completed#1', 1);
    const A = order.at('A', 1) < death ? 'unknown' : 'lost';
    return outcomeOf(of(A, 'rolled-back'), 'pending#1', 0);
  },
};
