import type { IncomingHttpHeaders } from 'node:http';

/**
 * The part of an HTTP request that this library reads, the same on Express and Fastify. Option callbacks
 * (`scope`, `fingerprint`) receive the platform's own request object, typed as this much of it.
 */
export interface IdempotentRequest {
  readonly method: string;
  /** Path and query string as the client sent them. */
  readonly originalUrl: string;
  readonly headers: IncomingHttpHeaders;
  readonly params: Readonly<Record<string, string>>;
  readonly query: unknown;
  /** Parsed body, `undefined` when there is none or no parser took it. */
  readonly body?: unknown;
  /** What an authentication guard put there. */
  readonly user?: unknown;
}
