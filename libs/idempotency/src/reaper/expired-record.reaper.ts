import { createHash } from 'node:crypto';
import { Logger } from '@nestjs/common';
import type { QueryResult } from 'pg';
import type { IdempotencyEvent } from '../events/idempotency-event.js';
import type { IdempotencyStore } from '../store/idempotency.store.js';
import type { Session } from '../store/session.js';
import { sqlStateOf } from '../store/sql-state.js';

export interface ReaperSettings {
  /** `undefined`: never on its own. */
  readonly intervalMs: number | undefined;
  readonly batch: number;
  readonly acquireTimeoutMs: number;
}

/** A batch may wait for nothing (SKIP LOCKED); a longer one means a database in trouble, and the next round comes. */
const BATCH_TIMEOUT_MS = 30_000;

/** Deletes expired records in batches, one instance at a time, never one that somebody holds. */
export class ExpiredRecordReaper {
  readonly #logger = new Logger('IdempotencyReaper');
  readonly #lock: string;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #running: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly store: IdempotencyStore,
    private readonly settings: ReaperSettings,
    private readonly emit: (event: IdempotencyEvent) => void,
  ) {
    // One lock per table: two services that share a table share the reaper's turn.
    this.#lock = createHash('sha256')
      .update(`nestjs-pg-idempotency:reap:${store.table}`)
      .digest()
      .readBigInt64BE()
      .toString();
  }

  start(): void {
    if (this.settings.intervalMs !== undefined) this.#schedule(this.settings.intervalMs);
  }

  /** Ends the schedule and waits for a batch under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Deletes until nothing expired is left, or another instance has its turn. Resolves with the number deleted. */
  async reap(): Promise<number> {
    let total = 0;
    let deleted: number;
    do {
      deleted = await this.#batch();
      total += deleted;
    } while (deleted === this.settings.batch && !this.#stopped);
    if (total > 0) this.emit({ type: 'reaped', count: total });
    return total;
  }

  async #batch(): Promise<number> {
    const session = await this.store.open(this.settings.acquireTimeoutMs);
    try {
      const result = await session.within(BATCH_TIMEOUT_MS, this.#delete(session));
      session.release();
      return result.rowCount ?? 0;
    } catch (error) {
      await session.rollbackAndRelease(this.settings.acquireTimeoutMs);
      throw error;
    }
  }

  /**
   * In a transaction at READ COMMITTED, whatever the default is: above it, one record that was reclaimed meanwhile
   * would fail the whole batch (40001).
   */
  async #delete(session: Session): Promise<QueryResult> {
    const { BEGIN, REAP, COMMIT } = this.store.sql;
    await session.query({ text: BEGIN });
    const result = await session.query({ text: REAP, values: [this.settings.batch, this.#lock] });
    await session.query({ text: COMMIT });
    return result;
  }

  #schedule(intervalMs: number): void {
    // Up to a tenth earlier or later, so that instances started together do not come together.
    const jitter = intervalMs * (0.9 + Math.random() * 0.2);
    this.#timer = setTimeout(() => {
      this.#running = this.reap()
        .catch((error: unknown) => {
          this.#logger.warn(
            `Expired records were not deleted (${sqlStateOf(error) ?? 'no SQLSTATE'}): ${String(error)}`,
          );
        })
        .finally(() => {
          if (!this.#stopped) this.#schedule(intervalMs);
        });
    }, jitter);
    this.#timer.unref();
  }
}
