import pg from 'pg';
import { KEY_HASH_SQL } from '../../../bench/growth/key-hash.js';
import type { Subject } from '../history/event.js';

/** In the namespace of an application that gives none. $1 scope, $2 key */
const LOCKABLE = `
SELECT 1 FROM idempotency_keys
 WHERE key_hash = ${KEY_HASH_SQL("'default'", '$1::text', '$2::text')}
   FOR UPDATE SKIP LOCKED`;

const PAUSE_MS = 2;

/** Resolves when the row of a record can be locked; answers the milliseconds until then, `undefined` after `deadlineMs`. */
export async function freedAfter(
  databaseUrl: string,
  { scope, key }: Subject,
  deadlineMs: number,
): Promise<number | undefined> {
  const began = performance.now();
  const client = new pg.Client({ connectionString: databaseUrl });
  client.on('error', () => undefined);
  try {
    await client.connect();
    while (performance.now() - began < deadlineMs) {
      const { rowCount } = await client.query(LOCKABLE, [scope, key]);
      if (rowCount === 1) return performance.now() - began;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    return undefined;
  } catch {
    // The database has crashed meanwhile: that is another measurement.
    return undefined;
  } finally {
    await client.end().catch(() => undefined);
  }
}
