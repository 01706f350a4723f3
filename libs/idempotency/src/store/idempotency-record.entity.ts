import { EntitySchema } from 'typeorm';

/** One row of `idempotency_keys`, for reading it through TypeORM. The library itself writes it with SQL only. */
export interface IdempotencyRecord {
  keyHash: Buffer;
  expiresAt: Date;
  createdAt: Date;
  completedAt: Date | null;
  leaseUntil: Date | null;
  attempt: number;
  abandoned: number;
  format: number;
  responseStatus: number | null;
  status: 'pending' | 'completed' | 'error';
  fingerprint: Buffer;
  namespace: string;
  scope: string;
  key: string;
  operation: string;
  responseHeaders: Record<string, string> | null;
  responseBody: Buffer | null;
  lastError: string | null;
  request: Buffer | null;
}

/**
 * Entity of the records under the default table name, for dashboards and tests: put it into the `entities` of your
 * data source. It mirrors the library's migrations, so that schema tools see no difference; do not write through it.
 */
export const IdempotencyRecordEntity = new EntitySchema<IdempotencyRecord>({
  name: 'IdempotencyRecord',
  tableName: 'idempotency_keys',
  columns: {
    keyHash: {
      name: 'key_hash',
      type: 'bytea',
      primary: true,
      primaryKeyConstraintName: 'idempotency_keys_pkey',
    },
    expiresAt: { name: 'expires_at', type: 'timestamptz' },
    createdAt: { name: 'created_at', type: 'timestamptz', default: () => 'clock_timestamp()' },
    completedAt: { name: 'completed_at', type: 'timestamptz', nullable: true },
    leaseUntil: { name: 'lease_until', type: 'timestamptz', nullable: true },
    attempt: { type: 'integer', default: 1 },
    abandoned: { type: 'smallint', default: 0 },
    format: { type: 'smallint', default: 1 },
    responseStatus: { name: 'response_status', type: 'smallint', nullable: true },
    status: { type: 'text', default: 'pending' },
    fingerprint: { type: 'bytea' },
    namespace: { type: 'text' },
    scope: { type: 'text' },
    key: { type: 'text' },
    operation: { type: 'text' },
    responseHeaders: { name: 'response_headers', type: 'json', nullable: true },
    responseBody: { name: 'response_body', type: 'bytea', nullable: true },
    lastError: { name: 'last_error', type: 'text', nullable: true },
    request: { type: 'bytea', nullable: true },
  },
  indices: [
    { name: 'idempotency_keys_expires_at', columns: ['expiresAt'] },
    { name: 'idempotency_keys_lease_until', columns: ['leaseUntil'], where: 'lease_until IS NOT NULL' },
  ],
  checks: [
    {
      name: 'idempotency_keys_status_check',
      expression: `(status = ANY (ARRAY['pending'::text, 'completed'::text, 'error'::text]))`,
    },
    { name: 'idempotency_keys_key_check', expression: `(key <> ''::text)` },
  ],
});
