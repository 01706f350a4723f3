import { foretell, type Row } from './message-model.js';
import type { Scenario } from './scenario.js';
import { claimant, deathOf, dying, reaper } from './transaction-parts.js';
import {
  abandonedRecord,
  asking,
  completingAtOnce,
  expiredRecord,
  heldByA,
  LOST_COMMIT,
  type Told,
} from './transaction-scenarios.js';

// Requests whose messages are not taken apart, as the library sends them. With three sessions there are too many orders else.
const request = claimant({ turns: 4, grain: 'message' });
const BEGUN: Row = { status: 'pending', attempt: 1, begun: true, expired: false, by: '' };
const EXPIRED: Row = { status: 'completed', attempt: 1, begun: false, expired: true, by: 'A' };

type LostCommit = typeof LOST_COMMIT extends Scenario<infer Prepared> ? Prepared : never;

export const EXPIRED_AND_TWO: Told = {
  scenario: {
    name: 'an expired record and two requests',
    parts: { A: request, B: request },
    prepare: expiredRecord,
    isSymmetric: true,
    effects: 'with-record',
  },
  expected: foretell({ A: 'claimant', B: 'claimant' }, EXPIRED),
};

export const ABANDONED_AND_TWO: Told = {
  scenario: {
    name: 'an abandoned record and two requests',
    parts: { A: request, B: request },
    prepare: abandonedRecord,
    isSymmetric: true,
    effects: 'with-record',
  },
  expected: foretell({ A: 'claimant', B: 'claimant' }, BEGUN),
};

export const EXPIRED_TWO_AND_REAPER: Told = {
  scenario: {
    name: 'an expired record, two requests and the reaper',
    parts: { A: request, B: request, R: reaper },
    prepare: expiredRecord,
    effects: 'with-record',
  },
  expected: foretell({ A: 'claimant', B: 'claimant', R: 'reaper' }, EXPIRED),
};

export const DYING_OWNER_AND_TWO: Told = {
  scenario: {
    name: 'an owner that dies, and two requests',
    parts: { O: dying({ turns: 2, grain: 'message' }), A: request, B: request },
    effects: 'with-record',
  },
  expected: foretell({ O: 'dying', A: 'claimant', B: 'claimant' }, undefined),
};

export const LOST_COMMIT_AND_RETRY: Told<LostCommit> = {
  scenario: {
    name: 'a COMMIT whose answer is lost, the question after it, and a retry',
    parts: {
      A: completingAtOnce,
      K: deathOf('A'),
      S: asking,
      B: request,
    },
    prepare: heldByA,
    effects: 'with-record',
  },
  expected: foretell({ A: 'owner', K: 'death of A', S: 'asker', B: 'claimant' }, BEGUN),
};
