import type { CommitResult } from '../../libs/idempotency/src/store/commit.js';
import {
  type CompletedAttempt,
  IdempotencyStore,
} from '../../libs/idempotency/src/store/idempotency.store.js';
import type { Session } from '../../libs/idempotency/src/store/session.js';
import { type BrokenStore, each, withClasses, withSql } from './broken-store.js';

const TIMES = ['LOCK_OR_READ', 'LOCK_WAITING', 'READ', 'LOOK'] as const;
const IS_OVER = 'expires_at <= clock_timestamp()';

/** Time, bytes and settings. */
export const brokenSurroundings: readonly BrokenStore[] = [
  {
    name: 'judges expiry by a clock that is half a minute fast',
    fails: 'transaction mode: a final outcome is found until it expires',
    says: /a claim shortly before it expires: found 'locked'/,
    make: withSql({ records: each(TIMES, [IS_OVER, `${IS_OVER} + interval '30 seconds'`]) }),
  },
  {
    name: 'takes an expired record for one that stands until the reaper comes',
    fails: 'transaction mode: an expired record is as good as absent',
    says: /a claim with another payload: found 'reused'/,
    make: withSql({ records: each(TIMES, [IS_OVER, `expires_at <= '-infinity'`]) }),
  },
  {
    name: 'reaps what lease mode has not finished',
    fails: 'both modes: the reaper deletes what has expired',
    says: /lease mode has not finished: found undefined/,
    make: withSql({
      records: { REAP: [[/\((?:r\.)?status <> 'pending' OR (?:r\.)?lease_until IS NULL\)/g, 'true']] },
    }),
  },
  {
    name: 'reaps what has not expired',
    fails: 'both modes: the reaper deletes what has expired',
    says: /has not expired: found undefined/,
    make: withSql({
      records: { REAP: [['expires_at <= statement_timestamp()', `expires_at <= 'infinity'`]] },
    }),
  },
  {
    name: 'reaps in the order of whoever holds a record',
    fails: 'both modes: the reaper deletes what has expired',
    says: /the reaper: no answer/,
    make: withSql({ records: { REAP: [['FOR UPDATE SKIP LOCKED', 'FOR UPDATE']] } }),
  },
  {
    name: 'lets a frozen owner hold its key',
    fails: 'transaction mode: an owner that is frozen',
    says: /the end of a silent owner: no answer/,
    make: withSql({
      records: {
        LOCK_OR_READ: [
          [
            /set_config\('(?:idle_in_transaction_session_timeout|transaction_timeout)', \$3::text, true\)/g,
            '$$3::text',
          ],
        ],
      },
    }),
  },
  {
    name: "runs at the session's isolation level",
    fails: "transaction mode: works at READ COMMITTED, whatever the session's default",
    says: /repeatable read by default: found 'repeatable read'/,
    make: withSql({ records: { BEGIN: [[/^[^]*$/, 'BEGIN']] } }),
  },
  {
    name: 'keeps bodies as text',
    fails: 'transaction mode: an answer comes back as it was stored',
    says: /an answer with every byte/,
    make: withBody((body) => body && Buffer.from(body.toString('utf8'))),
  },
  {
    name: 'takes an empty body for none',
    fails: 'transaction mode: an answer comes back as it was stored',
    says: /an answer with an empty body/,
    make: withBody((body) => (body?.length ? body : null)),
  },
  {
    name: 'keeps headers as jsonb',
    fails: 'transaction mode: an answer comes back as it was stored',
    says: /the order of its headers/,
    make: withSql({
      records: { COMPLETE: [['response_headers = $5', 'response_headers = $5::jsonb::json']] },
    }),
  },
];

function withBody(change: (body: Buffer | null) => Buffer | null): BrokenStore['make'] {
  return withClasses({
    Records: class extends IdempotencyStore {
      override complete(session: Session, outcome: CompletedAttempt): Promise<CommitResult> {
        const { response } = outcome;
        return super.complete(session, {
          ...outcome,
          response: { ...response, body: change(response.body) },
        });
      }
    },
  });
}
