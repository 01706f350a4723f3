import { digestOf, partsOf } from './answer.js';
import { shownAnswer } from './answers.js';
import type { Ok, Refused, Unknown } from './event.js';
import type { OpenCall } from './open-calls.js';
import { LAST_WORDS } from './p4-never-wedged.js';
import type { Show } from './sightings.js';

/** How a call ends. */
export type End = Ok | Refused | Unknown;

/** Tells a protected call's key how it ended. */
export function endProtected(call: OpenCall, end: End, shown: Show): void {
  const { evidence, isSweep } = call;
  switch (end.kind) {
    case 'ok':
      evidence.answered(call, end, shown);
      break;
    case 'refused':
      evidence.failed(call, shown, end);
      break;
    case 'unknown':
      evidence.failed(call, shown);
      break;
  }
  if (!isSweep) return;
  const code = end.kind === 'refused' ? end.code : undefined;
  const isFinal = end.kind === 'ok' || (code !== undefined && LAST_WORDS.has(code));
  evidence.swept(call, end.atMs, { shown, isFinal, code });
}

/** `200 (replayed) {"id":1}`, `409 IDEMPOTENCY_KEY_IN_USE`, `no answer (ECONNRESET)`. */
export function shownEnd(end: End): string {
  switch (end.kind) {
    case 'ok':
      return shownAnswer({ ...end, body: digestOf(partsOf(end.body).body) });
    case 'refused':
      return `${end.status} ${end.code}`;
    case 'unknown':
      return `no answer (${end.cause})`;
  }
}
