import type { TestDatabase } from './database.js';
import { until } from './until.js';

/** Of the transaction that holds a pending record, whether its handler has come as far as the carts: claimed is not yet begun. */
const HANDLER_RUNS = `
SELECT 1
  FROM idempotency_keys k
  JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = k.xmax AND l.granted
  JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE k.key = $1 AND k.status = 'pending' AND a.query LIKE '%cart_items%'`;

/** Waits until the handler that adds an item for the key runs, and not only its claim. */
export async function isInFlight(database: TestDatabase, key: string): Promise<void> {
  await until('the handler runs', async () => (await database.rows(HANDLER_RUNS, [key])).length > 0);
}
