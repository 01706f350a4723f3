import type { HistoryLog } from './clients/history-log.js';
import type { Effect, StoredRecord } from './history/event.js';
import type { Database } from './world/database.js';

const PAGE = 5_000;

const EFFECTS = `
SELECT id, scope, operation, key, payload, attempt FROM chaos_ledger WHERE id > $1 ORDER BY id LIMIT ${PAGE}`;

const RECORDS = `
SELECT key_hash AS id, scope, operation, key, status, response_status AS "responseStatus", response_body AS body
  FROM idempotency_keys WHERE key_hash > $1 ORDER BY key_hash LIMIT ${PAGE}`;

interface EffectRow extends Omit<Effect, 'kind'> {
  readonly id: string;
}

interface RecordRow extends Omit<StoredRecord, 'kind' | 'responseBody'> {
  readonly id: Buffer;
  readonly body: Buffer | null;
}

/** Writes down what stands in the tables when all is over. */
export async function tellWhatStands(database: Database, log: HistoryLog): Promise<void> {
  for await (const { id: _, ...effect } of pages<EffectRow>(database, EFFECTS, '0')) {
    log.tell({ kind: 'effect', ...effect });
  }
  for await (const { id: _, body, ...row } of pages<RecordRow>(database, RECORDS, Buffer.of())) {
    log.tell({ kind: 'record', ...row, responseBody: body?.toString('utf8') ?? null });
  }

  /** A run of an hour leaves some hundred thousand rows: they are not held all at once. */
  async function* pages<Row extends { readonly id: unknown }>(
    from: Database,
    text: string,
    first: Row['id'],
  ): AsyncGenerator<Row> {
    let after = first;
    for (;;) {
      const rows = await from.rows<Row>(text, [after]);
      yield* rows;
      await log.written();
      const last = rows.at(-1);
      if (last === undefined) return;
      after = last.id;
    }
  }
}
