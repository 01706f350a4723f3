import { type CheckOptions, DEFAULT_CHECK_OPTIONS } from './options.js';

/**
 * Options of the checker from words like `answerWithinMs=12000`, `exemptFaults=restart,kill` and `leaseHandlersWrite=false`. What a word
 * may hold is what the default of its option is.
 *
 * @throws TypeError that names the word.
 */
export function parseSettings(words: readonly string[]): Partial<CheckOptions> {
  return Object.fromEntries(words.map(parseSetting));
}

function parseSetting(word: string): [string, string | number | boolean | string[]] {
  const [name = '', value] = word.split('=', 2);
  const defaults = new Map<string, unknown>(Object.entries(DEFAULT_CHECK_OPTIONS));
  const known = defaults.get(name);
  if (known === undefined || value === undefined || value === '') {
    throw new TypeError(`${word}: expected option=value with one of ${[...defaults.keys()].join(', ')}`);
  }
  if (Array.isArray(known)) return [name, value.split(',')];
  if (typeof known === 'boolean') return [name, oneOf(word, value, ['true', 'false']) === 'true'];
  if (typeof known === 'string') return [name, oneOf(word, value, ['ok', 'original'])];
  const number = Number(value);
  if (Number.isNaN(number) || number < 0) throw new TypeError(`${word}: expected a number from 0`);
  return [name, number];
}

function oneOf(word: string, value: string, allowed: readonly string[]): string {
  if (!allowed.includes(value)) throw new TypeError(`${word}: expected one of ${allowed.join(', ')}`);
  return value;
}
