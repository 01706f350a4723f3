import { describe, expect, it } from 'vitest';
import { NAMED, IDENTITY, PAID } from '../../../../test/support/engine-script.js';
import type { IdempotencyEvent } from '../events/idempotency-event.js';
import { type Answered, outcomeOf } from './answered.js';
import { answerFrom, named } from './engine-parts.js';

const cause = new Error('format 3');
const replay = { kind: 'replay', raised: true, response: PAID, source: 'shared', expiresAtMs: 5 } as const;

describe('a request that is answered without its handler', () => {
  it.each<[Answered, unknown]>([
    [replay, { kind: 'replay', raised: true, response: PAID }],
    [
      { kind: 'record-unreadable', cause },
      { kind: 'rejected', reason: 'record-unreadable', cause },
    ],
    [{ kind: 'in-flight' }, { kind: 'rejected', reason: 'in-flight' }],
    [{ kind: 'reused' }, { kind: 'rejected', reason: 'reused' }],
    [{ kind: 'response-not-stored' }, { kind: 'rejected', reason: 'response-not-stored' }],
    [{ kind: 'attempts-exhausted' }, { kind: 'rejected', reason: 'attempts-exhausted' }],
    [{ kind: 'undecided' }, { kind: 'rejected', reason: 'undecided' }],
  ])('comes to an outcome: %o', (answered, outcome) => {
    expect(outcomeOf(answered)).toEqual(outcome);
    expect(answerFrom(answered, IDENTITY, { emit: () => undefined })).toEqual(outcome);
  });

  it('is told as an event when it is a replay, and else not', () => {
    const events: IdempotencyEvent[] = [];
    const emit = (event: IdempotencyEvent): void => void events.push(event);
    answerFrom({ kind: 'reused' }, IDENTITY, { emit });
    answerFrom(replay, IDENTITY, { emit });
    expect(events).toEqual([{ type: 'replayed', status: 201, source: 'shared', ...NAMED }]);
  });

  it('names its record by a hash alone', () => {
    expect(named(IDENTITY)).toEqual(NAMED);
  });
});
