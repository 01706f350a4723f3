import pg from 'pg';
import type { Subject } from '../history/event.js';

/** SHA-256 over the parts with their lengths before them: the record's primary key. $1 scope, $2 key; the namespace is empty. */
const LOCKABLE = `
SELECT 1 FROM idempotency_keys
 WHERE key_hash = sha256(int4send(0)
         || int4send(octet_length($1::text)) || convert_to($1::text, 'UTF8')
         || int4send(octet_length($2::text)) || convert_to($2::text, 'UTF8'))
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
