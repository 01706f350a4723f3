import { Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import type { Limit } from '../background/limit.js';
import { Rounds } from '../background/rounds.js';
import { IdempotencyProblem } from '../errors/idempotency.problem.js';
import { markCompletion, type RecordDatabase } from '../http/completion.js';
import { decodeRequest } from '../http/stored-request.js';
import type { CompleterSettings } from '../resolve-completer.js';
import type { DetachedRequest, RouteCaller } from '../routes/route-caller.js';
import type { RouteRegistry } from '../routes/route-registry.js';
import type { AbandonedRecord, LeaseStore } from '../store/lease.store.js';
import { withSession } from '../store/with-session.js';

/** How many abandoned records are read at a time. */
const PAGE = 100;
/** How long the shutdown waits for handlers that were called. */
const STOP_TIMEOUT_MS = 5_000;

export interface CompleterParts {
  readonly store: LeaseStore;
  /** Where the records are: what finishes them there, and what `restore` may read from. */
  readonly database: RecordDatabase;
  readonly dataSource: DataSource;
  readonly routes: RouteRegistry;
  readonly caller: RouteCaller;
  readonly namespace: string;
  readonly acquireTimeoutMs: number;
  readonly settings: CompleterSettings;
  /** Shared by the completers of several databases: how many of them look for records at a time. */
  readonly lookups: Limit;
  /** Likewise: how many records are finished at a time. */
  readonly completions: Limit;
  /** Whether the data source is closed for good. */
  readonly isOver?: (() => boolean) | undefined;
  readonly isSpread?: boolean | undefined;
}

/**
 * Finishes abandoned records without their clients: it calls the route's handler again with the stored request, as an
 * attempt like any other, which the claim counts and the fence bounds. Any number of instances may do it at once: of
 * those that call for one record, one claims it.
 */
export class AbandonedRecordCompleter {
  readonly #logger = new Logger('IdempotencyCompleter');
  readonly #told = new Set<string>();
  readonly #rounds: Rounds;

  constructor(private readonly parts: CompleterParts) {
    const { settings, isOver, isSpread } = parts;
    this.#rounds = new Rounds({
      intervalMs: settings.intervalMs,
      isOver,
      isSpread,
      round: () => this.round(),
      onError: (error) => this.#logger.warn(`Abandoned records were not looked for: ${String(error)}`),
    });
  }

  start(): void {
    this.#rounds.start();
  }

  /** Ends the schedule and waits for the handlers that it has called, but not for ever: their records stay abandoned. */
  async stop(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise((resolve) => (timer = setTimeout(resolve, STOP_TIMEOUT_MS)));
    await Promise.race([this.#rounds.stop(), over]);
    clearTimeout(timer);
  }

  /** One round over everything abandoned for longer than `after`. Resolves with the number of records it called for. */
  async round(): Promise<number> {
    let called = 0;
    let after: AbandonedRecord | undefined;
    for (;;) {
      const page = await this.#page(after);
      called += await this.#finishAll(page);
      after = page.at(-1);
      if (page.length < PAGE || this.#rounds.isStopped) return called;
    }
  }

  #page(after: AbandonedRecord | undefined): Promise<AbandonedRecord[]> {
    const { store, namespace, settings, acquireTimeoutMs } = this.parts;
    const options = { graceMs: settings.graceMs, limit: PAGE, ...(after ? { after } : {}) };
    return this.parts.lookups.run(() =>
      withSession(store, acquireTimeoutMs, (session) => store.abandoned(session, namespace, options)),
    );
  }

  /** Calls for the records of a page, as many at a time as `concurrency` says. */
  async #finishAll(page: readonly AbandonedRecord[]): Promise<number> {
    const waiting = [...page];
    let called = 0;
    const { completions } = this.parts;
    const worker = async (): Promise<void> => {
      for (let next = waiting.shift(); next && !this.#rounds.isStopped; next = waiting.shift()) {
        const record = next;
        if (await completions.run(() => this.#finish(record))) called++;
      }
    };
    await Promise.all(Array.from({ length: this.parts.settings.concurrency }, worker));
    return called;
  }

  async #finish({ identity, abandoned, request }: AbandonedRecord): Promise<boolean> {
    // It may have waited for those of other databases.
    if (this.#rounds.isStopped || this.parts.isOver?.()) return false;
    const { caller, routes } = this.parts;
    const name = `${identity.operation} (key ${identity.keyHash.toString('hex').slice(0, 16)})`;
    if (!request) {
      this.#tellOnce(name, 'its stored request is encrypted with a key that is not among encryptionKeys');
      return false;
    }
    try {
      const stored = decodeRequest(request);
      const route = routes.named(stored.route);
      if (!route || !caller.has(stored.route)) {
        this.#tellOnce(name, `no single route of this application is ${stored.route}`);
        return false;
      }
      const { policy } = route;
      const mayRun = policy.mode === 'lease' && policy.onAbandoned === 'retry';
      if (!mayRun || abandoned + 1 >= policy.maxAttempts) return false;
      await caller.call(stored, async (restored) => {
        markCompletion(restored, { identity, database: this.parts.database });
        await this.#restore(restored, identity, name);
      });
    } catch (error) {
      // The attempt's own events tell of it. Another instance, or the client, may have been first.
      if (!(error instanceof IdempotencyProblem)) {
        this.#logger.debug(`${name} is not finished: ${String(error)}`);
      }
    }
    return true;
  }

  /** The application's own `restore`, with its errors told: nothing else would tell of them. */
  async #restore(
    request: DetachedRequest,
    { scope, key }: AbandonedRecord['identity'],
    name: string,
  ): Promise<void> {
    try {
      await this.parts.settings.restore?.(request, { scope, key, dataSource: this.parts.dataSource });
    } catch (error) {
      this.#tellOnce(name, `completer.restore failed: ${String(error)}`);
      throw error;
    }
  }

  #tellOnce(name: string, reason: string): void {
    if (this.#told.has(name)) return;
    this.#told.add(name);
    this.#logger.warn(`${name} stays abandoned: ${reason}.`);
  }
}
