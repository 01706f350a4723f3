import { setTimeout as pause } from 'node:timers/promises';
import type { HistoryLog } from './clients/history-log.js';
import type { Sample } from './history/event.js';
import { SPARED } from './monkey/lending.js';
import type { World } from './world/world.js';

const HELD = `
SELECT (SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state LIKE 'idle in transaction%')::int AS "idleInTransaction",
       (SELECT count(*) FROM idempotency_keys WHERE expires_at <= clock_timestamp())::int AS "expiredRecords"`;

/** Looks every now and then at what the run holds. */
export class Sampler {
  phase: Sample['phase'] = 'baseline';
  #isOver = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(
    private readonly world: World,
    private readonly log: HistoryLog,
    private readonly everyMs: number,
  ) {}

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isOver.abort();
    await this.#running;
  }

  /** Of the instance that lives through the whole run, and of the database. Nothing when one of them does not answer. */
  async sample(): Promise<void> {
    const stats = await this.world.instances[SPARED]?.stats();
    const rows = await this.world.database
      .rows<{ idleInTransaction: number; expiredRecords: number }>(HELD)
      .catch(() => []);
    const [held] = rows;
    if (stats === undefined || held === undefined) return;
    const { residentBytes, poolConnections, timers } = stats;
    const atMs = this.log.nowMs;
    this.log.tell({
      kind: 'sample',
      atMs,
      phase: this.phase,
      residentBytes,
      poolConnections,
      timers,
      ...held,
    });
  }

  async #run(): Promise<void> {
    const { signal } = this.#isOver;
    while (!signal.aborted) {
      await this.sample();
      await pause(this.everyMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
