import { Logger } from '@nestjs/common';
import { MemcachedConnection, type ConnectionLimits } from './memcached.connection.js';
import type { MemcachedAddress } from './memcached.options.js';

/** Between two attempts to connect; the first after a connection that worked comes at once. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** A node that comes and goes does not fill the log. */
const QUIET_MS = 60_000;

/** One node, and the connection to it that comes again after each fault. While there is none everything rejects at once. */
export class MemcachedNode {
  readonly #logger = new Logger('IdempotencyCache');
  /** The one that answers. */
  #ready: MemcachedConnection | undefined;
  /** The one that answers, or is about to. */
  #connection: MemcachedConnection | undefined;
  #state: 'idle' | 'open' | 'closed' = 'idle';
  /** Since it last answered a question. */
  #failures = 0;
  #lastFault = 'it has not answered yet';
  #pause: NodeJS.Timeout | undefined;
  #isReportedAway = false;
  #reportedAt = -Infinity;

  constructor(
    readonly address: MemcachedAddress,
    private readonly limits: ConnectionLimits,
  ) {}

  start(): void {
    if (this.#state !== 'idle') return;
    this.#state = 'open';
    this.#connect();
  }

  /** @throws at once while it is away. */
  connection(): MemcachedConnection {
    if (this.#state === 'closed') throw new Error('The cache is closed.');
    // Asked before anybody started it.
    this.start();
    if (!this.#ready) throw new Error(`Memcached ${this.address.name} is away: ${this.#lastFault}`);
    return this.#ready;
  }

  close(): void {
    this.#state = 'closed';
    clearTimeout(this.#pause);
    this.#connection?.end(new Error('The cache is closed.'));
  }

  #connect(): void {
    const connection = new MemcachedConnection(this.address, this.limits, {
      ready: () => (this.#ready = connection),
      answered: () => {
        // That it tells its version is not enough: it may fail at the first question each time.
        if (this.#ready === connection && this.#failures > 0) this.#isBack();
      },
      ended: (reason) => this.#isAway(reason),
    });
    this.#connection = connection;
  }

  #isBack(): void {
    this.#failures = 0;
    if (!this.#isReportedAway) return;
    this.#isReportedAway = false;
    this.#logger.log(`Memcached ${this.address.name} answers again.`);
  }

  #isAway(reason: Error): void {
    this.#ready = undefined;
    this.#connection = undefined;
    if (this.#state === 'closed') return;
    this.#lastFault = reason.message;
    this.#report();
    const pause =
      this.#failures === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** (this.#failures - 1), LONGEST_PAUSE_MS);
    this.#failures++;
    this.#pause = setTimeout(() => this.#connect(), pause);
    this.#pause.unref();
  }

  #report(): void {
    if (this.#isReportedAway || performance.now() - this.#reportedAt < QUIET_MS) return;
    this.#isReportedAway = true;
    this.#reportedAt = performance.now();
    this.#logger.warn(
      `Memcached ${this.address.name} is away: ${this.#lastFault}. Its keys are answered from PostgreSQL until it is back.`,
    );
  }
}
