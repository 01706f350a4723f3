import { setTimeout as pause } from 'node:timers/promises';
import { LAST_WORDS } from '../history/p4-never-wedged.js';
import type { Caller } from './caller.js';
import type { Outcome } from './outcome.js';
import type { Wish } from './subject.js';

const UNDECIDED = 'IDEMPOTENCY_OUTCOME_UNKNOWN';
const AT_ONCE = 16;
const ASK_AGAIN_MS = 50;
/** A key that has no final answer by then has none. */
const DEADLINE_MS = 15_000;

/**
 * Asks for every wish once more, until it is answered for good: nothing may be left in flight for ever. Resolves to those that have an
 * answer which can be given again.
 */
export async function sweep(caller: Caller, wishes: readonly Wish[]): Promise<Wish[]> {
  const left = wishes.values();
  const answered: Wish[] = [];
  const worker = async (): Promise<void> => {
    for (const wish of left) if ((await settle(caller, wish))?.kind === 'ok') answered.push(wish);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return answered;
}

/** Its last answer; `undefined` when there is none for good. */
async function settle(caller: Caller, wish: Wish): Promise<Outcome | undefined> {
  const began = performance.now();
  while (performance.now() - began < DEADLINE_MS) {
    const outcome = await caller.call(wish, { isSweep: true });
    if (isFinal(wish, outcome)) return outcome;
    await pause(ASK_AGAIN_MS);
  }
  return undefined;
}

function isFinal({ mode }: Wish, outcome: Outcome): boolean {
  switch (outcome.kind) {
    case 'ok':
      return true;
    case 'refused':
      // In lease mode a person is to decide. In transaction mode the answer to COMMIT was lost: another try knows more.
      return LAST_WORDS.has(outcome.code) || (outcome.code === UNDECIDED && mode === 'lease');
    case 'unknown':
      return false;
  }
}
