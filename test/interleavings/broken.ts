import { inject } from 'vitest';
import { BORN, idempotencySql } from '../../libs/idempotency/src/store/idempotency.sql.js';
import { leaseSql } from '../../libs/idempotency/src/store/lease.sql.js';
import type { Planted } from './ground.js';

/** Which scenario has to find it. */
export type Finder =
  | 'same payload'
  | 'expired and two'
  | 'expired and reaper'
  | 'lost commit'
  | 'zombie'
  | 'phase and takeover'
  | 'late release'
  | 'late outcome';

/** The library's statements with one thing left out. */
export interface Broken {
  readonly name: string;
  readonly finder: Finder;
  readonly plant: (table: string) => Planted;
  /** What of it is seen: in the outcome, or among what must never be. */
  readonly shows: string;
}

/** Fails when the text does not stand there any more: a variant that changes nothing finds nothing. */
function without(text: string, part: string, instead = ''): string {
  if (!text.includes(part)) throw new Error(`${part} does not stand in\n${text}`);
  return text.replace(part, () => instead);
}

const records = (table: string): ReturnType<typeof idempotencySql> =>
  idempotencySql(table, inject('postgresVersion'));
const leases = (table: string): ReturnType<typeof leaseSql> => leaseSql(table, inject('postgresVersion'));
const unlockedLook = (table: string): string =>
  without(records(table).LOCK_OR_READ, 'FOR UPDATE SKIP LOCKED');

export const BROKEN: readonly Broken[] = [
  {
    name: 'LOCK without FOR UPDATE',
    finder: 'same payload',
    shows: 'refused',
    plant: (table) => ({ records: { LOCK_OR_READ: unlockedLook(table) } }),
  },
  {
    name: 'LOCK without FOR UPDATE, and COMPLETE without its fence',
    finder: 'same payload',
    shows: '2 effects',
    plant: (table) => ({
      records: {
        LOCK_OR_READ: unlockedLook(table),
        COMPLETE: without(
          records(table).COMPLETE,
          "AND attempt = $2 AND status = 'pending'",
          'AND $2 = $2::int',
        ),
      },
    }),
  },
  {
    name: 'LOCK that queues for the row',
    finder: 'same payload',
    shows: 'cannot be',
    plant: (table) => ({ records: { LOCK_OR_READ: without(records(table).LOCK_OR_READ, 'SKIP LOCKED') } }),
  },
  {
    name: "the claim in the handler's transaction",
    finder: 'same payload',
    shows: 'cannot be',
    plant: () => ({ records: { COMMIT_AND_CHAIN: 'SELECT 1' } }),
  },
  {
    name: 'CLAIM without ON CONFLICT',
    finder: 'same payload',
    shows: 'B failed 23505',
    plant: (table) => ({
      records: { CLAIM: without(records(table).CLAIM, 'ON CONFLICT (key_hash) DO NOTHING') },
    }),
  },
  {
    name: 'LOCK without FOR UPDATE, and RECLAIM without its fence',
    finder: 'expired and two',
    shows: 'executed#3',
    plant: (table) => ({
      records: {
        LOCK_OR_READ: unlockedLook(table),
        RECLAIM: without(records(table).RECLAIM, 'AND r.attempt = $2', 'AND $2 = $2::int'),
      },
    }),
  },
  {
    name: 'REAP that waits for the row and looks at its time only once',
    finder: 'expired and reaper',
    shows: 'R reaped 1',
    plant: (table) => ({
      records: {
        REAP: without(
          without(records(table).REAP, 'FOR UPDATE SKIP LOCKED'),
          'AND r.expires_at <= statement_timestamp()',
        ),
      },
    }),
  },
  {
    name: 'SETTLED without FOR UPDATE',
    finder: 'lost commit',
    shows: 'S hears rolled-back; completed#1',
    plant: (table) => ({ records: { SETTLED: without(records(table).SETTLED, 'FOR UPDATE') } }),
  },
  {
    name: 'COMPLETE of lease mode without the attempt in its fence',
    finder: 'zombie',
    shows: 'O has lost it, executed#1',
    plant: (table) => ({
      leases: { COMPLETE: without(leases(table).COMPLETE, 'AND attempt = $2', 'AND $2 = $2::int') },
    }),
  },
  {
    name: 'PHASE without its lock',
    finder: 'phase and takeover',
    shows: 'O phase stale, T phase done',
    plant: (table) => ({ leases: { PHASE: without(leases(table).PHASE, 'FOR NO KEY UPDATE') } }),
  },
  {
    name: 'RELEASE without the birth in its fence',
    finder: 'late release',
    shows: 'error#1',
    plant: (table) => ({
      records: {
        RELEASE: without(records(table).RELEASE, `AND ${BORN} = $4::bigint`, 'AND $4 = $4::bigint'),
      },
    }),
  },
  {
    name: 'COMPLETE of lease mode without the birth in its fence',
    finder: 'late outcome',
    shows: 'O executed#1, N claims#1',
    plant: (table) => ({
      leases: {
        COMPLETE: without(leases(table).COMPLETE, `AND ${BORN} = $3::bigint`, 'AND $3 = $3::bigint'),
      },
    }),
  },
];

/** The library's own transactions without the level that it pins: they are of the session's default. */
export const unpinned = (): Planted => ({ records: { BEGIN: 'BEGIN' } });
