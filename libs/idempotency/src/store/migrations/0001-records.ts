import { quoteTable, siblingName } from '../table-name.js';
import type { IdempotencyMigration } from './migration.js';

/** The table of records. */
export const records: IdempotencyMigration = {
  name: '0001-records',
  up: (table) => [
    `
CREATE TABLE ${quoteTable(table)} (
  -- SHA-256 over length-prefixed namespace, scope and key: the unique key constraint. A hash, because a key with its
  -- scope may be longer than an index entry allows.
  key_hash         bytea       NOT NULL CONSTRAINT "${siblingName(table, '_pkey')}" PRIMARY KEY,
  expires_at       timestamptz NOT NULL,
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  completed_at     timestamptz,
  -- lease mode only
  lease_until      timestamptz,
  -- the fencing token: the number of the attempt that may write; it only grows
  attempt          integer     NOT NULL DEFAULT 1,
  -- attempts in a row whose owner died
  abandoned        smallint    NOT NULL DEFAULT 0,
  format           smallint    NOT NULL DEFAULT 1,
  response_status  smallint,
  status           text        NOT NULL DEFAULT 'pending'
                   CONSTRAINT "${siblingName(table, '_status_check')}" CHECK (status IN ('pending', 'completed', 'error')),
  fingerprint      bytea       NOT NULL,
  -- for people; the empty key is refused here too, because it would be one key for every client that forgot its own
  namespace        text        NOT NULL,
  scope            text        NOT NULL,
  key              text        NOT NULL CONSTRAINT "${siblingName(table, '_key_check')}" CHECK (key <> ''),
  operation        text        NOT NULL,
  -- json, not jsonb: jsonb refuses \\u0000 and reorders members
  response_headers json,
  response_body    bytea,
  last_error       text
) WITH (
  -- room on the page, so that completing a record is a HOT update: no index is touched
  fillfactor = 85,
  -- each record leaves a dead version behind when it is completed: cleared early, its room is used again. Seldom or often costs
  -- the same in all, as pages to which nothing was written are passed over
  autovacuum_vacuum_scale_factor = 0.05,
  autovacuum_vacuum_insert_scale_factor = 0.05
)`,
    // The reaper's way to expired records. expires_at is written by the claim and not moved by completion.
    `CREATE INDEX "${siblingName(table, '_expires_at')}" ON ${quoteTable(table)} (expires_at)`,
  ],
};
