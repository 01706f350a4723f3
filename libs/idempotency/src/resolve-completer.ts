import { durationMs } from './duration.js';
import type { CompleterOptions, RestoreRequest } from './idempotency.options.js';
import { check, checkFunction, integer, MAX_TIMER_MS, milliseconds } from './option-checks.js';

/** How abandoned records are finished, resolved. */
export interface CompleterSettings {
  readonly graceMs: number;
  readonly intervalMs: number;
  readonly concurrency: number;
  /** In lower case, `content-type` among them. */
  readonly requestHeaders: readonly string[];
  readonly restore: RestoreRequest | undefined;
}

/** Headers whose values let their holder in: they would outlive the request in the database. */
const CREDENTIALS = /^(?:authorization|proxy-authorization|cookie|x-api-key|x-csrf-token|x-xsrf-token)$/;

const NAMES: readonly (keyof CompleterOptions)[] = [
  'after',
  'interval',
  'concurrency',
  'requestHeaders',
  'restore',
];

/** @throws {IdempotencyConfigurationError} naming the option, the value received and the fix. */
export function resolveCompleter(value: CompleterOptions | boolean): CompleterSettings | undefined {
  if (value === false) return undefined;
  check(
    value === true || (typeof value === 'object' && value !== null && !Array.isArray(value)),
    'completer',
    value,
    'use false, true, or an object of its options',
  );
  const options: CompleterOptions = value === true ? {} : value;
  for (const [name, received] of Object.entries(options)) {
    check(
      (NAMES as readonly string[]).includes(name),
      `completer.${name}`,
      received,
      'completer has no such option; remove it or correct its spelling',
    );
  }
  const { after = '1m', concurrency = 4, requestHeaders = ['Accept', 'Accept-Language'], restore } = options;
  const graceMs = milliseconds('completer.after', after, { min: 10, max: MAX_TIMER_MS });
  const interval = options.interval ?? Math.min(durationMs('30s') ?? 0, graceMs);
  checkFunction('completer.restore', restore);
  check(
    Array.isArray(requestHeaders) && requestHeaders.every((name) => typeof name === 'string'),
    'completer.requestHeaders',
    requestHeaders,
    'use an array of header names',
  );
  const names = requestHeaders.map((name) => name.toLowerCase());
  for (const name of names) {
    check(
      !CREDENTIALS.test(name),
      'completer.requestHeaders',
      name,
      'take it out: a credential must not be stored; put what it stands for on the request with completer.restore',
    );
  }
  return {
    graceMs,
    intervalMs: milliseconds('completer.interval', interval, { min: 10, max: MAX_TIMER_MS / 2 }),
    concurrency: integer('completer.concurrency', concurrency, { min: 1, max: 100 }),
    requestHeaders: [...new Set(['content-type', ...names])],
    restore,
  };
}
