import { inspect } from 'node:util';

const LONGEST = 80;

/** A received value, short enough for one line of an error message and unmistakable: strings are quoted. */
export function describe(value: unknown): string {
  if (typeof value === 'function') return value.name ? `function ${value.name}` : 'a function';
  const text = inspect(value, {
    depth: 1,
    breakLength: Infinity,
    maxArrayLength: 5,
    maxStringLength: LONGEST,
  });
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
