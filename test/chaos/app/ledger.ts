import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';

/** Nothing in it keeps a second effect out: no constraint, no key of the request. That is what is to be shown. */
export const LEDGER_SCHEMA = `
CREATE TABLE IF NOT EXISTS chaos_ledger (
  id        bigint      GENERATED ALWAYS AS IDENTITY,
  scope     text        NOT NULL,
  operation text        NOT NULL,
  key       text        NOT NULL,
  payload   text        NOT NULL,
  attempt   integer     NOT NULL,
  nonce     uuid        NOT NULL,
  written   timestamptz NOT NULL DEFAULT clock_timestamp()
)`;

const WRITE = `
INSERT INTO chaos_ledger (scope, operation, key, payload, attempt, nonce) VALUES ($1, $2, $3, $4, $5, $6)`;

export interface LedgerEntry {
  readonly scope: string;
  readonly operation: string;
  readonly key: string;
  readonly payload: string;
  readonly attempt: number;
}

/** What a handler answers. Another execution would answer another nonce. */
export interface LedgerAnswer {
  readonly owner: string;
  readonly payload: string;
  readonly nonce: string;
}

/** Knows nothing of idempotency: an ordinary service on an ordinary data source. */
@Injectable()
export class Ledger {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  async write({ scope, operation, key, payload, attempt }: LedgerEntry): Promise<LedgerAnswer> {
    const nonce = randomUUID();
    await this.dataSource.query(WRITE, [scope, operation, key, payload, attempt, nonce]);
    return { owner: scope, payload, nonce };
  }

  async look(): Promise<void> {
    await this.dataSource.query('SELECT 1');
  }
}
