import { Inject, Injectable, Logger, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type pg from 'pg';
import PgBoss from 'pg-boss';
import type { EntityManager } from 'typeorm';
import { CONFIRMATIONS_OPTIONS, type ConfirmationsOptions } from './confirmations.options.js';
import { inTransactionOf, onPool, oneAtATime, queuePool } from './queue-connections.js';

const QUEUE = 'order-confirmation';

/** An order whose confirmation is to be sent. */
export interface ConfirmationJob {
  readonly id: string;
  readonly orderId: string;
}

/**
 * The queue of confirmations to send, in the app's own database. A job is handed out at least once: again when the
 * instance that had it failed, or has not said within a minute that it is done.
 */
@Injectable()
export class ConfirmationQueue implements OnModuleInit, OnApplicationShutdown {
  readonly pool: pg.Pool;
  readonly #boss: PgBoss;

  constructor(@Inject(CONFIRMATIONS_OPTIONS) { databaseUrl }: ConfirmationsOptions) {
    const logger = new Logger(ConfirmationQueue.name);
    const warn = (error: Error): void => logger.warn(error.message);
    this.pool = queuePool(databaseUrl, warn);
    this.#boss = new PgBoss({
      db: onPool(this.pool),
      // Looks for jobs whose instance died; one instance at a time does it.
      maintenanceIntervalSeconds: 10,
      schedule: false,
    });
    this.#boss.on('error', warn);
  }

  /**
   * Makes pg-boss's schema and the queue where they are missing, one instance at a time: two that make the queue's table at
   * once would fail each other's start.
   */
  async onModuleInit(): Promise<void> {
    await oneAtATime(this.pool, async () => {
      await this.#boss.start();
      await this.#boss.createQueue(QUEUE, {
        name: QUEUE,
        retryLimit: 10,
        retryDelay: 1,
        retryBackoff: true,
        expireInSeconds: 60,
      });
    });
  }

  /** Adds a job in the transaction of `manager`: it is there when that commits, and never was when it does not. */
  async enqueue(manager: EntityManager, orderId: string): Promise<void> {
    const id = await this.#boss.send(QUEUE, { orderId }, { db: inTransactionOf(manager) });
    // pg-boss inserts nothing, and says no more than this, when there is no such queue.
    if (id === null) throw new Error(`the queue ${QUEUE} took no job`);
  }

  /** Takes one job, `undefined` when there is none, or when the database cannot be asked. */
  async next(): Promise<ConfirmationJob | undefined> {
    const [job] = await this.#boss.fetch<{ orderId: string }>(QUEUE);
    return job && { id: job.id, orderId: job.data.orderId };
  }

  async done({ id }: ConfirmationJob): Promise<void> {
    await this.#boss.complete(QUEUE, id);
  }

  /** Gives the job back, to be tried again later. */
  async failed({ id }: ConfirmationJob, error: unknown): Promise<void> {
    await this.#boss.fail(QUEUE, id, { message: error instanceof Error ? error.message : String(error) });
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#boss.stop({ graceful: false });
    await this.pool.end();
  }
}
