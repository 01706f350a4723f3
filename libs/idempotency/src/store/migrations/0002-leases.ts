import { auditTable, quoteTable, siblingName, stepsTable } from '../table-name.js';
import type { IdempotencyMigration } from './migration.js';

/** What lease mode needs: the way to abandoned records, the journal of steps, and the trail of what people decided. */
export const leases: IdempotencyMigration = {
  name: '0002-leases',
  up: (table) => [
    // What the completer calls the handler again with; gone when the outcome is final.
    `ALTER TABLE ${quoteTable(table)} ADD COLUMN request bytea`,
    // The way to abandoned records. Transaction mode never sets the column, and a final record has none: for both the
    // index does not exist, and completing stays a HOT update.
    `CREATE INDEX "${siblingName(table, '_lease_until')}" ON ${quoteTable(table)} (lease_until)
 WHERE lease_until IS NOT NULL`,
    `
CREATE TABLE ${quoteTable(stepsTable(table))} (
  key_hash     bytea       NOT NULL
               CONSTRAINT "${siblingName(stepsTable(table), '_key_hash_fkey')}" REFERENCES ${quoteTable(table)} ON DELETE CASCADE,
  name         text        NOT NULL,
  -- its place in the handler: a later attempt must come to its steps in the same order
  position     integer     NOT NULL,
  kind         text        NOT NULL
               CONSTRAINT "${siblingName(stepsTable(table), '_kind_check')}" CHECK (kind IN ('step', 'phase')),
  -- the attempt that did it
  attempt      integer     NOT NULL,
  -- it ended in an error that was declared final; the body is that error
  raised       boolean     NOT NULL DEFAULT false,
  -- null: it returned nothing
  content_type text,
  body         bytea       NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT "${siblingName(stepsTable(table), '_pkey')}" PRIMARY KEY (key_hash, name)
)`,
    // Without a foreign key: the trail outlives what it tells of.
    `
CREATE TABLE ${quoteTable(auditTable(table))} (
  id         bigint      GENERATED ALWAYS AS IDENTITY
             CONSTRAINT "${siblingName(auditTable(table), '_pkey')}" PRIMARY KEY,
  key_hash   bytea       NOT NULL,
  action     text        NOT NULL
             CONSTRAINT "${siblingName(auditTable(table), '_action_check')}" CHECK (action IN ('complete', 'release', 'erase')),
  -- the attempt that the decision ended, and what the record was before
  attempt    integer     NOT NULL,
  status     text        NOT NULL,
  actor      text        NOT NULL,
  reason     text        NOT NULL,
  decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
)`,
    `CREATE INDEX "${siblingName(auditTable(table), '_key_hash')}" ON ${quoteTable(auditTable(table))} (key_hash)`,
  ],
};
