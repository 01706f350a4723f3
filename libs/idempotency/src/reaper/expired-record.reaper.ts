import { createHash } from 'node:crypto';
import { Logger } from '@nestjs/common';
import type { QueryResult } from 'pg';
import { Limit } from '../background/limit.js';
import { Rounds } from '../background/rounds.js';
import type { IdempotencyEvent } from '../events/idempotency-event.js';
import type { IdempotencyStore } from '../store/idempotency.store.js';
import type { Session } from '../store/session.js';
import { sqlStateOf } from '../store/sql-state.js';

export interface ReaperSettings {
  /** `undefined`: never on its own. */
  readonly intervalMs: number | undefined;
  readonly batch: number;
  readonly acquireTimeoutMs: number;
  /** Shared by the reapers of several databases: how many of them work at a time. */
  readonly lookups?: Limit | undefined;
  /** Whether the data source is closed for good. */
  readonly isOver?: (() => boolean) | undefined;
  readonly isSpread?: boolean | undefined;
}

/** A batch may wait for nothing (SKIP LOCKED); a longer one means a database in trouble, and the next round comes. */
const BATCH_TIMEOUT_MS = 30_000;

/** Deletes expired records in batches, one instance at a time, never one that somebody holds. */
export class ExpiredRecordReaper {
  readonly #logger = new Logger('IdempotencyReaper');
  readonly #lock: string;
  readonly #lookups: Limit;
  readonly #rounds: Rounds | undefined;
  #isStopped = false;

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
    const { intervalMs, lookups = new Limit(1), isOver, isSpread } = settings;
    this.#lookups = lookups;
    if (intervalMs !== undefined) {
      this.#rounds = new Rounds({
        intervalMs,
        isOver,
        isSpread,
        round: () => this.reap(),
        onError: (error) =>
          this.#logger.warn(
            `Expired records were not deleted (${sqlStateOf(error) ?? 'no SQLSTATE'}): ${String(error)}`,
          ),
      });
    }
  }

  start(): void {
    this.#rounds?.start();
  }

  /** Ends the schedule and waits for a batch under way. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#rounds?.stop();
  }

  /** Deletes until nothing expired is left, or another instance has its turn. Resolves with the number deleted. */
  async reap(): Promise<number> {
    let total = 0;
    let deleted: number;
    do {
      // It may have waited for those of other databases.
      deleted = await this.#lookups.run(async () => (this.#isStopped ? 0 : this.#batch()));
      total += deleted;
    } while (deleted === this.settings.batch && !this.#isStopped);
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
}
