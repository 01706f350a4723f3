import type { CommitResult } from '../../libs/idempotency/src/store/commit.js';
import { BORN } from '../../libs/idempotency/src/store/idempotency.sql.js';
import {
  type CompletedAttempt,
  IdempotencyStore,
} from '../../libs/idempotency/src/store/idempotency.store.js';
import type { Session } from '../../libs/idempotency/src/store/session.js';
import { type BrokenStore, withClasses, withSql } from './broken-store.js';

/** Reads a column of the record, in place of what it is asked about. */
const adopting = (column: 'born' | 'written_by AS xid'): BrokenStore['make'] =>
  withClasses({
    Records: class extends IdempotencyStore {
      override async settled(
        session: Session,
        attempt: { keyHash: Buffer; attempt: number; born: string; xid: string },
        waitMs: number,
      ): Promise<'committed' | 'rolled-back' | 'gone'> {
        const { rows } = await session.query<{ born: string } | { xid: string }>({
          text: `SELECT ${column} FROM (${this.sql.SETTLED}) AS settled`,
          values: [attempt.keyHash],
        });
        return super.settled(session, { ...attempt, ...rows[0] }, waitMs);
      }
    },
  });

/** That record and rows are one commit, of the attempt that holds the record. */
export const brokenOutcomes: readonly BrokenStore[] = [
  {
    name: 'answers with success when the outcome was not stored',
    fails: "transaction mode: outcome and handler's rows are there when COMMIT is answered",
    says: /a claim behind COMMIT: found .*state: 'in-flight'|a claim behind COMMIT: found undefined/,
    make: withSql({
      records: {
        COMPLETE: [
          [/^[^]*$/, 'SELECT $1::bytea, $2::int, $3::text, $4::int, $5::json, $6::bytea, $7::text, $8::int'],
        ],
      },
    }),
  },
  ...['a COMMIT that is refused leaves', 'a connection that is lost before COMMIT leaves'].map((leaves) => ({
    name: `stores the outcome in a commit of its own, behind the handler's (${leaves} …)`,
    fails: `transaction mode: ${leaves}`,
    says: /the record behind it: found .*completed|rows of the lost attempt: found 1/,
    make: withClasses({
      Records: class extends IdempotencyStore {
        override async complete(session: Session, outcome: CompletedAttempt): Promise<CommitResult> {
          await session.query({ text: this.sql.COMMIT }).catch(() => undefined);
          await session.query({ text: this.sql.BEGIN });
          await session.query({ text: this.sql.SAVEPOINT });
          return super.complete(session, outcome);
        }
      },
    }),
  })),
  {
    name: 'keeps the rows of a handler that has failed',
    fails: 'transaction mode: a final error is kept',
    says: /rows of the handler that failed: found 1/,
    make: withSql({ records: { ROLLBACK_TO_SAVEPOINT: [[/^[^]*$/, 'SELECT 1']] } }),
  },
  {
    name: 'lets the record go when it undoes a run of the handler',
    fails: 'transaction mode: what a run of the handler has written is undone',
    says: /a claim meanwhile: found 'locked'/,
    make: withSql({ records: { ROLLBACK_TO_SAVEPOINT: [[/^[^]*$/, 'ROLLBACK']] } }),
  },
  {
    name: 'takes a COMMIT without an answer for a failure',
    fails: 'transaction mode: what became of a COMMIT without an answer',
    says: /of one that was committed: found 'rolled-back'/,
    make: withClasses({
      Records: class extends IdempotencyStore {
        override async settled(): Promise<'rolled-back'> {
          return 'rolled-back';
        }
      },
    }),
  },
  {
    name: 'takes what another life of the key came to for what became of its own attempt',
    fails: 'transaction mode: what became of a COMMIT without an answer',
    says: /in a former life of the key: found 'rolled-back'/,
    make: adopting('born'),
  },
  {
    name: "takes another transaction's outcome for that of its own attempt, where both have one number",
    fails: 'transaction mode: what became of a COMMIT without an answer',
    says: /of one with the number of another: found 'committed'/,
    make: adopting('written_by AS xid'),
  },
  {
    name: 'lets whoever comes last write the outcome',
    fails: 'transaction mode: an attempt that is fenced out writes nothing',
    says: /rows of it, the next attempt begun: found 1/,
    make: withSql({
      records: { COMPLETE: [[`AND attempt = $2 AND status = 'pending'`, 'AND $2::int IS NOT NULL']] },
    }),
  },
  {
    name: 'fences the record, and commits the rows all the same',
    fails: 'transaction mode: an attempt that is fenced out writes nothing',
    says: /rows of it, the next attempt begun: found 1/,
    make: withSql({ records: { COMPLETE: [['1 / count(*)', 'count(*)']] } }),
  },
  {
    name: 'lets whoever has lost the key give it back',
    fails: 'transaction mode: an attempt that is fenced out neither gives the key back',
    says: /the record after its release, the next attempt begun/,
    make: withSql({ records: { RELEASE: [['AND attempt = $2 AND', 'AND $2::int IS NOT NULL AND']] } }),
  },
  {
    name: 'tells the lives of a key by the number of the attempt',
    fails: 'transaction mode: another life of the key does not pass the fence',
    says: /the second life after a release of the first: found .*error/,
    make: withSql({ records: { RELEASE: [[`${BORN} = $4::bigint`, '$4::bigint IS NOT NULL']] } }),
  },
];
