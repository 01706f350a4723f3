import { acquire } from '../../libs/idempotency/src/engine/acquire.js';
import type { Answered } from '../../libs/idempotency/src/engine/answered.js';
import { Deadline } from '../../libs/idempotency/src/engine/deadline.js';
import { FinishedKeys } from '../../libs/idempotency/src/engine/finished-keys.js';
import type { Player } from './player.js';
import type { Part } from './scenario.js';
import type { Grain } from './stepped-session.js';
import { answerBy, POLICY, SETTINGS } from './subject.js';

type Owned = Extract<Awaited<ReturnType<typeof acquire>>, { kind: 'owned' }>;

/** Acquires as the engine does: the record is the session's, or it says what became of it. */
export function acquireBy(self: Player, payload?: string, wait?: Deadline): Promise<Owned | Answered> {
  const parts = { store: self.records, settings: SETTINGS, finished: new FinishedKeys() };
  return acquire(parts, self.subject.identity(payload), POLICY, wait);
}

export const answerOf = (answered: Answered): string =>
  answered.kind === 'replay' ? `replays ${String(answered.response.body)}` : answered.kind;

/** Completes with the session's own answer. `executed#2`: as the second attempt. */
export async function completeBy(self: Player, { session, attempt }: Owned): Promise<string> {
  const { keyHash } = self.subject;
  const result = await self.records.complete(session, {
    keyHash,
    attempt,
    status: 'completed',
    response: answerBy(self.name),
  });
  if (result.kind === 'committed') session.release();
  else await session.rollbackAndRelease(SETTINGS.acquireTimeoutMs);
  return result.kind === 'committed' ? `executed#${attempt}` : result.kind;
}

interface Claimant {
  readonly turns: number;
  readonly grain?: Grain;
  readonly payload?: string;
  /** Whether the effect has a turn of its own. Default `'aside'`. */
  readonly effect?: 'a-turn' | 'aside';
  /** Whether it waits for an attempt that is in flight. */
  readonly waits?: boolean;
}

/** A request: acquires, has its effect, and completes. */
export const claimant = ({ turns, grain, payload, effect, waits }: Claimant): Part<unknown> => ({
  turns,
  ...(grain ? { grain } : {}),
  play: async (self) => {
    const wait = waits ? new Deadline(POLICY.waitTimeoutMs) : undefined;
    const acquired = await acquireBy(self, payload, wait);
    if (acquired.kind !== 'owned') return answerOf(acquired);
    await self.charge(acquired.session, effect);
    return completeBy(self, acquired);
  },
});

/** A request whose handler fails after its effect: it gives the key back. */
export const failing = ({ turns, effect }: Claimant): Part<unknown> => ({
  turns,
  play: async (self) => {
    const acquired = await acquireBy(self);
    if (acquired.kind !== 'owned') return answerOf(acquired);
    const { session, attempt, born } = acquired;
    await self.charge(session, effect);
    const lost = { keyHash: self.subject.keyHash, attempt, born, error: new Error('it failed') };
    const { kind } = await self.records.release(session, { ...lost, began: true });
    session.release();
    return kind === 'committed' ? 'released' : kind;
  },
});

/** A request whose process dies in its handler. */
export const dying = ({ turns, grain }: Claimant): Part<unknown> => ({
  turns,
  ...(grain ? { grain } : {}),
  play: async (self) => {
    const acquired = await acquireBy(self);
    if (acquired.kind !== 'owned') return answerOf(acquired);
    await self.charge(acquired.session);
    await self.kill(self.name);
    acquired.session.destroy(new Error('its process is gone'));
    return 'died';
  },
});

/** The death of another session's process, at any moment. */
export const deathOf = (name: string): Part<unknown> => ({
  turns: 1,
  play: async (self) => {
    await self.kill(name);
    return 'killed it';
  },
});

/** A batch of the reaper, as it sends it. */
export const reaper: Part<unknown> = {
  turns: 2,
  play: async (self) => `reaped ${await reap(self)}`,
};

export async function reap(self: Player): Promise<number> {
  const { BEGIN, REAP, COMMIT } = self.records.sql;
  const session = self.open();
  await session.query({ text: BEGIN });
  const { rowCount } = await session.query({ text: REAP, values: [1_000, self.ground.turnOfReapers] });
  await session.query({ text: COMMIT });
  session.release();
  return rowCount ?? 0;
}
