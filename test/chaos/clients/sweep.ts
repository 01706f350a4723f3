import { setTimeout as pause } from 'node:timers/promises';
import type { Caller } from './caller.js';
import type { Outcome } from './outcome.js';
import type { Wish } from './subject.js';

const AT_ONCE = 16;
const ASK_AGAIN_MS = 50;
/** A key that has no final answer by then has none. */
const DEADLINE_MS = 15_000;
/** Refusals that stay: a person is to decide. */
const FOR_PEOPLE: readonly string[] = ['IDEMPOTENCY_ATTEMPTS_EXHAUSTED', 'IDEMPOTENCY_OUTCOME_UNKNOWN'];

/** Asks for every wish once more, until it is answered for good: nothing may be left in flight for ever. */
export async function sweep(
  caller: Caller,
  wishes: readonly Wish[],
  onProgress: (done: number) => void,
): Promise<void> {
  const left = wishes.values();
  let done = 0;
  const worker = async (): Promise<void> => {
    for (const wish of left) {
      await settle(caller, wish);
      onProgress(++done);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function settle(caller: Caller, wish: Wish): Promise<void> {
  const began = performance.now();
  while (performance.now() - began < DEADLINE_MS) {
    const outcome = await caller.call(wish, { isSweep: true });
    if (isFinal(outcome)) return;
    await pause(ASK_AGAIN_MS);
  }
}

function isFinal(outcome: Outcome): boolean {
  switch (outcome.kind) {
    case 'ok':
      return true;
    case 'refused':
      return FOR_PEOPLE.includes(outcome.code);
    case 'unknown':
      return false;
  }
}
