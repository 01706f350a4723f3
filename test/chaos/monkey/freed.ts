import pg from 'pg';
import { KEY_HASH_SQL } from '../../../bench/growth/key-hash.js';
import type { Subject } from '../history/event.js';
import { HARNESS } from '../world/database.js';

/** In the namespace of an application that gives none. $1 scope, $2 key */
const LOCKABLE = {
  name: 'lockable',
  text: `
WITH locked AS MATERIALIZED (
  SELECT 1 FROM idempotency_keys
   WHERE key_hash = ${KEY_HASH_SQL("'default'", '$1::text', '$2::text')}
     FOR UPDATE SKIP LOCKED)
SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS "atMs" FROM locked`,
};

const PAUSE_MS = 2;

/**
 * Looks whether the row of a record can be locked, as a claim does it. Its connection is open before an owner dies. The time is that of
 * PostgreSQL when it has the lock: until this process hears of it, it is busy with hundreds of other calls.
 */
export class FreedProbe {
  #client: pg.Client | undefined;

  constructor(private readonly databaseUrl: string) {}

  /** Whether there is a connection; without one nothing can be measured now. */
  async isReady(): Promise<boolean> {
    if (this.#client !== undefined) return true;
    const client = new pg.Client({ connectionString: this.databaseUrl, application_name: HARNESS });
    client.on('error', () => this.#leave(client));
    try {
      await client.connect();
      this.#client = client;
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Resolves when the row can be locked; answers when that was, by the clock of the machine in milliseconds since 1970; `undefined` when
   * nobody knows after `deadlineMs`.
   */
  async freedAtMs({ scope, key }: Subject, deadlineMs: number): Promise<number | undefined> {
    const began = performance.now();
    const client = this.#client;
    if (client === undefined) return undefined;
    try {
      while (performance.now() - began < deadlineMs) {
        const { rows } = await client.query<{ atMs: number }>({ ...LOCKABLE, values: [scope, key] });
        if (rows[0] !== undefined) return rows[0].atMs;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    } catch {
      // The database has crashed meanwhile: that is another measurement.
      this.#leave(client);
    }
    return undefined;
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => undefined);
  }

  #leave(client: pg.Client): void {
    if (this.#client === client) this.#client = undefined;
    client.end().catch(() => undefined);
  }
}
