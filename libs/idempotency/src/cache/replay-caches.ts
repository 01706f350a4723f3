import type { IdempotencyEvent } from '../events/idempotency-event.js';
import type { DatabaseClock } from '../store/database-clock.js';
import type { Sealing } from '../store/response-columns.js';
import { EntryCodec } from './entry-codec.js';
import { GuardedCache } from './guarded-cache.js';
import type { LocalCache } from './local-cache.js';
import { ReplayCache } from './replay-cache.js';
import type { SharedCache } from './shared-cache.js';

export interface ReplayCachesParts {
  readonly memory: LocalCache | undefined;
  readonly shared: { readonly cache: SharedCache; readonly sealing: Sealing } | undefined;
  readonly timeoutMs: number;
  readonly inFlightMs: number | undefined;
  readonly emit: (event: IdempotencyEvent) => void;
}

/** The application's one memory and one shared cache, of which each table gets a space of its own. */
export class ReplayCaches {
  readonly #guarded: GuardedCache | undefined;

  constructor(private readonly parts: ReplayCachesParts) {
    const { shared, timeoutMs, emit } = parts;
    this.#guarded = shared && new GuardedCache({ cache: shared.cache, timeoutMs, emit });
  }

  start(): void {
    this.#guarded?.start();
  }

  /** @param space names the table among all tables of all databases. */
  of(space: string, clock: DatabaseClock): ReplayCache {
    const { memory, shared, inFlightMs, emit } = this.parts;
    return new ReplayCache({
      space,
      clock,
      memory,
      shared: shared &&
        this.#guarded && { cache: this.#guarded, codec: new EntryCodec(shared.sealing, space) },
      inFlightMs,
      emit,
    });
  }

  async close(): Promise<void> {
    await this.#guarded?.close();
  }
}
