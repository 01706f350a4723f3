import type http from 'node:http';
import { answerText } from '../history/answer.js';
import type { Ok, Refused, Unknown } from '../history/event.js';

/** What an answer says about the effect. */
export type Outcome =
  Omit<Ok, 'call' | 'atMs'> | Omit<Refused, 'call' | 'atMs'> | Omit<Unknown, 'call' | 'atMs'>;

/** The library answers this where an attempt had begun. */
const SAYS_NOTHING = 'IDEMPOTENCY_ATTEMPT_LOST';

export function outcomeOf(status: number, headers: http.IncomingHttpHeaders, text: string): Outcome {
  const code = codeOf(headers, text);
  if (code !== undefined && code !== SAYS_NOTHING) {
    return { kind: 'refused', status, code, body: text };
  }
  // 500 and above are no outcome of these handlers; nginx answers 502 and 504 by itself.
  if (code !== undefined || status >= 500)
    return { kind: 'unknown', cause: `${status} ${code ?? ''}`.trim() };
  const replayed = headers['idempotent-replayed'] === 'true';
  return {
    kind: 'ok',
    status,
    replayed,
    body: answerText({ 'content-type': headers['content-type'] ?? '' }, text),
  };
}

function codeOf(headers: http.IncomingHttpHeaders, text: string): string | undefined {
  if (!headers['content-type']?.startsWith('application/problem+json')) return undefined;
  const { code } = JSON.parse(text) as { code?: string };
  return code?.startsWith('IDEMPOTENCY_') ? code : undefined;
}
