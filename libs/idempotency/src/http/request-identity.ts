import { Injectable, Logger } from '@nestjs/common';
import type { IdempotencyErrorCode } from '../errors/idempotency-error-code.js';
import type { IdempotentRequest } from './request.js';
import type { RoutePlan } from '../resolve-options.js';
import type { AttemptIdentity } from '../store/identity.js';
import { UnfingerprintableBodyError } from './canonical-body.js';
import { fingerprintOf, hasUnparsedBody, operationOf } from './fingerprint.js';
import { type KeyCarrier, matchesKeyFormat, readIdempotencyKey } from './idempotency-key.js';
import { keyHash } from './key-hash.js';

/** Which record a request speaks of, or why it cannot be told. */
export type IdentityReading =
  | { readonly kind: 'identity'; readonly identity: AttemptIdentity }
  /** No key, and the route does not require one. */
  | { readonly kind: 'unprotected' }
  | { readonly kind: 'rejected'; readonly code: IdempotencyErrorCode; readonly detail: string };

/** Reads key, scope and fingerprint of a request, before anything else sees it and may change it. */
@Injectable()
export class RequestIdentityReader {
  readonly #logger = new Logger('IdempotencyModule');
  readonly #warned = new Set<string>();

  read(request: IdempotentRequest & KeyCarrier, plan: RoutePlan, namespace: string): IdentityReading {
    const key = this.#key(request, plan);
    if (key.kind !== 'key') return key;
    const operation = operationOf(request);
    const scope = this.#scope(request, plan, operation);
    if (scope.kind !== 'scope') return scope;
    if (!plan.fingerprint && hasUnparsedBody(request)) {
      return rejected(
        'IDEMPOTENCY_BODY_NOT_PARSED',
        `A body of type ${request.headers['content-type'] ?? 'unknown'} was received that this route does not read, ` +
          'so that it cannot be told from another one. Send application/json.',
      );
    }
    const parts = { namespace, scope: scope.scope, key: key.key };
    try {
      const body: unknown = plan.fingerprint ? plan.fingerprint(request) : request.body;
      const { method, originalUrl } = request;
      const fingerprint = fingerprintOf({ namespace, scope: scope.scope, method, originalUrl, body });
      return { kind: 'identity', identity: { ...parts, keyHash: keyHash(parts), operation, fingerprint } };
    } catch (error) {
      if (!(error instanceof UnfingerprintableBodyError) || plan.fingerprint) throw error;
      return rejected('IDEMPOTENCY_BODY_NOT_PARSED', error.message);
    }
  }

  #key(
    request: KeyCarrier,
    plan: RoutePlan,
  ): { readonly kind: 'key'; readonly key: string } | Exclude<IdentityReading, { kind: 'identity' }> {
    const reading = readIdempotencyKey(request, plan.header);
    switch (reading.kind) {
      case 'missing':
        return plan.required
          ? rejected(
              'IDEMPOTENCY_KEY_REQUIRED',
              `This operation requires the ${plan.header} header: a key unique to the operation, as a UUID, and the ` +
                'same on every retry of it.',
            )
          : { kind: 'unprotected' };
      case 'invalid':
        return rejected('IDEMPOTENCY_KEY_INVALID', reading.reason);
      case 'key':
        return plan.keyFormat === undefined || matchesKeyFormat(reading.key, plan.keyFormat)
          ? reading
          : rejected(
              'IDEMPOTENCY_KEY_INVALID',
              typeof plan.keyFormat === 'string'
                ? `The idempotency key is not a ${plan.keyFormat === 'uuid' ? 'UUID' : 'version 7 UUID'}.`
                : 'The idempotency key does not have the format that this operation requires.',
            );
    }
  }

  #scope(
    request: IdempotentRequest,
    plan: RoutePlan,
    operation: string,
  ): { readonly kind: 'scope'; readonly scope: string } | Extract<IdentityReading, { kind: 'rejected' }> {
    if (plan.scope === false) return { kind: 'scope', scope: '' };
    const resolved = plan.scope ? plan.scope(request) : userOf(request);
    if ((typeof resolved === 'string' && resolved !== '') || typeof resolved === 'number') {
      return { kind: 'scope', scope: String(resolved) };
    }
    const signedIn = request.user !== undefined && request.user !== null;
    if (!plan.scope && !signedIn) return { kind: 'scope', scope: '' };
    const fix =
      'Set the scope option to a function that resolves the caller, or to false for one shared namespace.';
    if (process.env['NODE_ENV'] === 'production') {
      // Fail closed: without a scope one user would be answered from another user's record.
      this.#logger.error(
        `${operation}: the scope of a request could not be resolved; it was refused. ${fix}`,
      );
      return rejected(
        'IDEMPOTENCY_SCOPE_UNRESOLVED',
        'The server cannot tell whose idempotency key this is.',
      );
    }
    if (!this.#warned.has(operation)) {
      this.#warned.add(operation);
      this.#logger.warn(
        `${operation}: the scope of a request could not be resolved, so all such callers share their keys. In ` +
          `production it is refused. ${fix}`,
      );
    }
    return { kind: 'scope', scope: '' };
  }
}

/** The usual names of a signed-in user's identity. */
function userOf({ user }: IdempotentRequest): string | number | undefined {
  const { id, sub } = (user ?? {}) as { id?: unknown; sub?: unknown };
  const found = id ?? sub;
  return typeof found === 'string' || typeof found === 'number' ? found : undefined;
}

function rejected(
  code: IdempotencyErrorCode,
  detail: string,
): Extract<IdentityReading, { kind: 'rejected' }> {
  return { kind: 'rejected', code, detail };
}
