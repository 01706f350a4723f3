import type { CommitResult } from '../../libs/idempotency/src/store/commit.js';
import { BORN } from '../../libs/idempotency/src/store/idempotency.sql.js';
import type { AttemptIdentity } from '../../libs/idempotency/src/store/identity.js';
import type { JournalEntry } from '../../libs/idempotency/src/store/journal-entry.js';
import {
  type Fence,
  type LeaseClaim,
  type LeaseClaimOptions,
  LeaseStore,
} from '../../libs/idempotency/src/store/lease.store.js';
import type { Session } from '../../libs/idempotency/src/store/session.js';
import { type BrokenStore, each, withClasses, withSql } from './broken-store.js';

const FENCED = [
  'RENEW',
  'JOURNAL_STEP',
  'JOURNAL_PHASE',
  'PHASE',
  'COMPLETE',
  'RELEASE',
  'ABANDON',
  'FORGET',
] as const;
const UNFINISHED = /\((?:r\.)?status <> 'pending' OR (?:r\.)?lease_until IS NULL\)/g;

/** What a write may do when the record is another attempt's, and what attempts leave to those after them. */
export const brokenFences: readonly BrokenStore[] = [
  {
    name: 'has a fence without the number of the attempt',
    fails: 'lease mode: an attempt that is fenced out writes nothing',
    says: /of an attempt that was taken over/,
    make: withSql({ leases: each(FENCED, ['AND attempt = $2', 'AND $2::int IS NOT NULL']) }),
  },
  {
    name: 'lets an attempt write that has come to its end',
    fails: 'lease mode: an attempt that is fenced out writes nothing',
    says: /of an attempt that has left the record/,
    make: withSql({ leases: each(FENCED, [` AND status = 'pending' AND abandoned >= 0`, '']) }),
  },
  {
    name: 'has a fence without the life of the key',
    fails: 'lease mode: another life of the key does not pass the fence',
    says: /of an attempt of a former life/,
    make: withSql({ leases: each(FENCED, [`${BORN} = $3::bigint`, '$3::bigint IS NOT NULL']) }),
  },
  {
    name: 'forgets what is half done when its time is over',
    fails: 'lease mode: an unfinished record never expires',
    says: /a claim while the lease runs: found 'claimed'/,
    make: withSql({ leases: { CLAIM: [[UNFINISHED, 'true']] }, records: { READ: [[UNFINISHED, 'true']] } }),
  },
  {
    name: 'hands the journal of a former life on',
    fails: 'lease mode: an expired outcome begins another life',
    says: /the next attempt: found .*charge/,
    make: withSql({
      leases: { CLAIM: [['(SELECT expired FROM taken)', '(SELECT expired AND false FROM taken)']] },
    }),
  },
  {
    name: 'keeps no request',
    fails: 'lease mode: a request is kept as it came',
    says: /records to finish: found \[\]/,
    make: withClasses({
      Leases: class extends LeaseStore {
        override claim(
          session: Session,
          identity: AttemptIdentity,
          { request: _request, ...options }: LeaseClaimOptions,
        ): Promise<LeaseClaim> {
          return super.claim(session, identity, options);
        }
      },
    }),
  },
  {
    name: 'writes over what is journaled',
    fails: 'lease mode: journal entries come back as written',
    says: /the journal, as the next attempt gets it/,
    make: withSql({
      leases: {
        JOURNAL_STEP: [
          ['(key_hash, name) DO NOTHING', '(key_hash, name) DO UPDATE SET body = excluded.body'],
        ],
      },
    }),
  },
  {
    name: 'reads the journal in the order of its names',
    fails: 'lease mode: journal entries come back as written',
    says: /the journal, as the next attempt gets it/,
    make: withSql({ leases: { JOURNAL: [['ORDER BY position', 'ORDER BY name']] } }),
  },
  ...["a phase's rows, its entry and its lease are one commit", 'a phase whose record was taken over'].map(
    (what) => ({
      name: `commits the rows of a phase that was not journaled (${what} …)`,
      fails: `lease mode: ${what}`,
      says: /rows of a phase that is done already: found 1|rows of the phase: found 1/,
      make: withSql({ leases: { JOURNAL_PHASE: [['1 / count(*)', 'count(*)']] } }),
    }),
  ),
  {
    name: 'journals a phase in a commit of its own',
    fails: 'lease mode: a phase that is lost before its COMMIT',
    says: /its rows: found 1/,
    make: withClasses({
      Leases: class extends LeaseStore {
        override async commitPhase(
          session: Session,
          fence: Fence,
          entry: JournalEntry,
          leaseMs: number,
          onSent: (what: 'record' | 'commit') => void,
        ): Promise<CommitResult> {
          await session.query({ text: 'COMMIT' });
          await session.query({ text: this.sql.BEGIN });
          return super.commitPhase(session, fence, entry, leaseMs, onSent);
        }
      },
    }),
  },
  {
    name: 'takes a phase without an answer for done',
    fails: 'lease mode: a phase that is lost before its COMMIT',
    says: /what became of it: found true/,
    make: withClasses({
      Leases: class extends LeaseStore {
        override async phaseSettled(): Promise<boolean> {
          return true;
        }
      },
    }),
  },
  {
    name: 'keeps results of steps as text',
    fails: 'lease mode: an answer and the journal come back',
    says: /a step's result, every byte/,
    make: withClasses({
      Leases: class extends LeaseStore {
        override journalStep(
          session: Session,
          fence: Fence,
          entry: JournalEntry,
          leaseMs: number,
        ): Promise<boolean> {
          const body = Buffer.from(entry.body.toString('utf8'));
          return super.journalStep(session, fence, { ...entry, body }, leaseMs);
        }
      },
    }),
  },
  {
    name: "runs phases at the session's isolation level",
    fails: "lease mode: works whatever the session's default isolation level is",
    says: /the level of a phase, repeatable read by default: found 'repeatable read'/,
    make: withSql({ leases: { BEGIN: [[/^[^]*$/, 'BEGIN']] } }),
  },
];
