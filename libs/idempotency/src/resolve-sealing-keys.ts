import { IdempotencyConfigurationError } from './errors/configuration.error.js';
import { parseSealingKeys } from './sealing/sealing-keys.js';

/**
 * The keys of an option, where it is set. The error names none of them: what was received may be one character away from the
 * right one.
 *
 * @throws {IdempotencyConfigurationError} naming the option and the fix.
 */
export function sealingKeys(option: string, value: unknown): readonly Buffer[] | undefined {
  if (value === undefined) return undefined;
  const parsed = parseSealingKeys(value);
  if ('keys' in parsed) return parsed.keys;
  const { problem } = parsed;
  throw new IdempotencyConfigurationError({
    option,
    received: Array.isArray(value) ? [`${value.length} keys that are not shown`] : typeof value,
    fix: `${problem.charAt(0).toUpperCase()}${problem.slice(1)}.`,
  });
}
