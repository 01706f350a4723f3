import { type Duration, durationMs } from './duration.js';
import { IdempotencyConfigurationError } from './errors/configuration.error.js';

/** Timers and PostgreSQL's timeouts hold no more. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** @throws {IdempotencyConfigurationError} unless `ok`. */
export function check(ok: boolean, option: string, received: unknown, fix: string): asserts ok {
  if (!ok)
    throw new IdempotencyConfigurationError({
      option,
      received,
      fix: `${fix.charAt(0).toUpperCase()}${fix.slice(1)}.`,
    });
}

export function checkBoolean(option: string, value: unknown): void {
  check(typeof value === 'boolean', option, value, 'use true or false');
}

export function checkFunction(option: string, value: unknown): void {
  check(value === undefined || typeof value === 'function', option, value, 'use a function');
}

export function checkOneOf(option: string, value: unknown, allowed: readonly string[]): void {
  check(
    allowed.includes(value as string),
    option,
    value,
    `use ${allowed.map((name) => `'${name}'`).join(' or ')}`,
  );
}

export function milliseconds(
  option: string,
  value: Duration,
  { min, max }: { min: number; max: number },
): number {
  const result = durationMs(value);
  check(
    result !== undefined && result >= min && result <= max,
    option,
    value,
    `use milliseconds or a text as '30s', '5m', '24h', from ${min} ms to ${Math.floor(max)} ms`,
  );
  return Math.ceil(result);
}

export function integer(option: string, value: unknown, { min, max }: { min: number; max: number }): number {
  check(
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max,
    option,
    value,
    `use an integer from ${min} to ${max}`,
  );
  return value as number;
}
