import type { Engine } from './engine/outcomes.js';
import type { AttemptMode } from './idempotency.options.js';
import type { IdempotencyEvents } from './events/idempotency-events.js';
import type { RequestIdentityReader } from './http/request-identity.js';
import type { ModuleSettings } from './resolve-options.js';
import type { RouteRegistry } from './routes/route-registry.js';

/** What the interceptor works with, put together once at start. */
export interface IdempotencyRuntime {
  readonly engines: Readonly<Record<AttemptMode, Engine>>;
  readonly routes: RouteRegistry;
  readonly identities: RequestIdentityReader;
  readonly events: IdempotencyEvents;
  readonly settings: ModuleSettings;
}

export const IDEMPOTENCY_RUNTIME = Symbol('IDEMPOTENCY_RUNTIME');
