import type { Evidence } from './evidence.js';
import { type Judge, KEPT } from './judge.js';
import type { Show } from './sightings.js';

/** What a handler puts into everything it answers, so that it can be told whose it is. */
const OWNER = /"owner"\s*:\s*("(?:[^"\\]|\\.)*")/g;

/** Looks whether an answer, or a record when there is no `call`, tells anything of another scope. */
export function lookForForeign(
  evidence: Evidence,
  scope: string,
  text: string,
  shown: Show,
  call?: number,
): void {
  for (const [, token = ''] of text.matchAll(OWNER)) {
    const owner = ownerOf(token);
    if (owner !== scope) evidence.sawForeign(owner, shown, call);
  }
}

function ownerOf(token: string): string {
  try {
    return JSON.parse(token) as string;
  } catch {
    // No JSON, as in a text that was cut: it is somebody's all the same.
    return token.slice(1, -1);
  }
}

/**
 * P6: no byte of one scope's data comes to another. Every answer and every stored answer may hold the `"owner"` of its own scope only,
 * bystanders and refusals included. One violation for each owner that a key tells of.
 */
export const isolation: Judge = {
  promise: 'P6',
  judge({ foreign, subject }) {
    if (!foreign) return KEPT;
    return [...foreign].map(([owner, seen]) => {
      const where = seen.calls.length === 0 ? 'the record holds' : `${seen.who} got`;
      return {
        message: `data of "${owner}" came to "${subject.scope}": ${where} ${seen.first}`,
        calls: seen.calls,
      };
    });
  },
};
