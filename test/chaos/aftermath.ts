import type { HistoryLog } from './clients/history-log.js';
import type { Effect, StoredRecord } from './history/event.js';
import type { Database } from './world/database.js';

const EFFECTS = 'SELECT scope, operation, key, payload, attempt FROM chaos_ledger ORDER BY id';

const RECORDS = `
SELECT scope, operation, key, status, response_status AS "responseStatus", response_body AS body
  FROM idempotency_keys`;

interface RecordRow extends Omit<StoredRecord, 'kind' | 'responseBody'> {
  readonly body: Buffer | null;
}

/** Writes down what stands in the tables when all is over. */
export async function tellWhatStands(database: Database, log: HistoryLog): Promise<void> {
  for (const effect of await database.rows<Omit<Effect, 'kind'>>(EFFECTS))
    log.tell({ kind: 'effect', ...effect });
  for (const { body, ...row } of await database.rows<RecordRow>(RECORDS)) {
    log.tell({ kind: 'record', ...row, responseBody: body?.toString('utf8') ?? null });
  }
}
