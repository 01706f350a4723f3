import { keyHash } from '../../libs/idempotency/src/http/key-hash.js';
import type { CommitResult } from '../../libs/idempotency/src/store/commit.js';
import {
  type ClaimResult,
  type CompletedAttempt,
  IdempotencyStore,
  type ReadRecord,
} from '../../libs/idempotency/src/store/idempotency.store.js';
import type { AttemptIdentity } from '../../libs/idempotency/src/store/identity.js';
import type { Session } from '../../libs/idempotency/src/store/session.js';
import { type BrokenStore, each, withClasses, withSql } from './broken-store.js';

const LOCKS = ['LOCK_OR_READ', 'LOCK_WAITING'] as const;
const READS = ['LOCK_OR_READ', 'READ', 'LOOK'] as const;
const FREE = `(status = 'pending' AND lease_until IS NULL)`;

/** Who gets a record, and for which payload. */
export const brokenClaims: readonly BrokenStore[] = [
  {
    name: 'looks, finds nobody, and runs',
    fails: 'transaction mode: of 32 claims at once one gets the record',
    says: /locked: 32/,
    make: withSql({ records: { LOCK_OR_READ: [['FOR UPDATE SKIP LOCKED', '']] } }),
  },
  {
    name: 'queues behind the owner with a connection in hand',
    fails: 'transaction mode: a held record is skipped',
    says: /a claim of a held record: no answer/,
    make: withSql({ records: { LOCK_OR_READ: [['SKIP LOCKED', '']] } }),
  },
  {
    name: 'keeps the key of a dead owner for the whole retention',
    fails: 'transaction mode: the key is free as soon as',
    says: /after the owner is gone: found 'in-flight'/,
    make: withSql({
      records: each(LOCKS, [FREE, `(status = 'pending' AND lease_until IS NULL AND xmax = 0)`]),
    }),
  },
  {
    name: 'waits for an owner without end',
    fails: 'transaction mode: a claim that waits gives up in time',
    says: /waits for 100 ms: no answer/,
    make: withSql({
      records: {
        LIMIT_WAIT: [
          [`set_config('lock_timeout', $1::text, true)`, `set_config('lock_timeout', '0', true), $1::text`],
        ],
      },
    }),
  },
  {
    name: 'runs the handler again when it has waited for it',
    fails: "transaction mode: a claim that waits is given the owner's answer",
    says: /found 'locked', not 'final'/,
    make: withSql({ records: { LOCK_WAITING: [[FREE, `(status <> '')`]] } }),
  },
  {
    name: 'looks with a lock',
    fails: 'transaction mode: a look takes nothing',
    says: /the record after that look/,
    make: withSql({ records: { LOOK: [[/$/, ' FOR UPDATE']] } }),
  },
  {
    name: 'compares no payloads',
    fails: 'transaction mode: another payload is told apart also while the record is held',
    says: /while the record is held: found 'in-flight', not 'reused'/,
    make: withSql({ records: each(READS, ['r.fingerprint = $2 AS same', '$2::bytea IS NOT NULL AS same']) }),
  },
  {
    name: 'compares payloads of what is finished only',
    fails: 'transaction mode: another payload is told apart also while the record is held',
    says: /while the record is held: found 'in-flight', not 'reused'/,
    make: withClasses({
      Records: class extends IdempotencyStore {
        override describe(hash: Buffer, found: object | undefined, askedAt: number): ReadRecord {
          const isPending = found !== undefined && 'status' in found && found.status === 'pending';
          return isPending ? { state: 'in-flight' } : super.describe(hash, found, askedAt);
        }
      },
    }),
  },
  {
    name: 'lets another payload take a free record over',
    fails: 'transaction mode: another payload never takes a record over',
    says: /another payload at an abandoned record: found 'locked'/,
    make: withSql({ records: each(LOCKS, ['(fingerprint = $2', '($2::bytea IS NOT NULL']) }),
  },
  {
    name: 'has one key for everybody',
    fails: 'both modes: one key under two scopes',
    says: /a look at the same key in .*bob.*: found 'final', not 'absent'/,
    make: withClasses({
      Records: class extends IdempotencyStore {
        readonly #shared = new Map<string, Buffer>();
        #unscoped(identity: AttemptIdentity): AttemptIdentity {
          const shared = keyHash({ ...identity, scope: '' });
          this.#shared.set(identity.keyHash.toString('hex'), shared);
          return { ...identity, keyHash: shared };
        }
        override claim(
          session: Session,
          identity: AttemptIdentity,
          options: Parameters<IdempotencyStore['claim']>[2],
        ): Promise<ClaimResult> {
          return super.claim(session, this.#unscoped(identity), options);
        }
        override look(session: Session, identity: AttemptIdentity): Promise<ReadRecord> {
          return super.look(session, this.#unscoped(identity));
        }
        override complete(session: Session, outcome: CompletedAttempt): Promise<CommitResult> {
          const shared = this.#shared.get(outcome.keyHash.toString('hex')) ?? outcome.keyHash;
          return super.complete(session, { ...outcome, keyHash: shared });
        }
      },
    }),
  },
];

/** What is known of the attempts before. */
export const brokenRetries: readonly BrokenStore[] = [
  {
    name: 'counts no deaths: a request that kills its process kills the next one, too',
    fails: 'transaction mode: an attempt that died is counted durably',
    says: /the attempt that was counted: found .*abandoned: 0/,
    make: withSql({ records: { RECLAIM: [['abandoned = $3', 'abandoned = 0 * $3::int']] } }),
  },
  {
    name: 'takes an attempt that was counted, and not begun, for a dead one',
    fails: 'transaction mode: a counted attempt that nobody has begun',
    says: /begun: true.*not .*begun: false/,
    make: withSql({ records: each(LOCKS, ['xmax = 0 OR xmax = xmin OR', 'xmax = 0 OR']) }),
  },
  {
    name: 'deletes what it releases, so that numbers begin anew',
    fails: 'transaction mode: a release lets a retry in',
    says: /the released record: found undefined/,
    make: withSql({
      records: {
        RELEASE: [[/UPDATE (\S+)\s+SET [^]*?WHERE/, 'DELETE FROM $1 WHERE $3::text IS NOT NULL AND']],
      },
    }),
  },
  {
    name: 'keeps the record of a request that was refused before its handler',
    fails: 'transaction mode: a first attempt whose handler never began',
    says: /the record of what never began: found {/,
    make: withSql({
      records: { FORGET: [[/DELETE FROM (\S+) WHERE/, `UPDATE $1 SET status = 'error' WHERE`]] },
    }),
  },
];
