import { describe, expect, it } from 'vitest';
import { IdempotencyConfigurationError } from './errors/configuration.error.js';
import type { CompleterOptions } from './idempotency.options.js';
import { resolveCompleter } from './resolve-completer.js';

function faultOf(act: () => unknown): IdempotencyConfigurationError {
  try {
    act();
  } catch (error) {
    if (error instanceof IdempotencyConfigurationError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('resolveCompleter', () => {
  it('is off with false', () => {
    expect(resolveCompleter(false)).toBeUndefined();
  });

  it.each([[true], [{}], [{ after: undefined, restore: undefined }]])(
    'fills in the documented defaults for %o',
    (value) => {
      expect(resolveCompleter(value as CompleterOptions)).toEqual({
        graceMs: 60_000,
        intervalMs: 30_000,
        concurrency: 4,
        requestHeaders: ['content-type', 'accept', 'accept-language'],
        restore: undefined,
      });
    },
  );

  it.each([
    [{ after: '5m' }, 300_000, 30_000],
    [{ after: '10s' }, 10_000, 10_000],
    [{ after: 10 }, 10, 10],
    [{ after: '5m', interval: '2m' }, 300_000, 120_000],
    [{ interval: 10 }, 60_000, 10],
  ] as const)(
    'looks as often as records become due, at least every 30 s: %o',
    (value, graceMs, intervalMs) => {
      expect(resolveCompleter(value)).toMatchObject({ graceMs, intervalMs });
    },
  );

  it('stores the content type whatever is named, each header once, in lower case', () => {
    expect(resolveCompleter({ requestHeaders: [] })?.requestHeaders).toEqual(['content-type']);
    expect(
      resolveCompleter({ requestHeaders: ['X-Tenant', 'Content-Type', 'x-tenant'] })?.requestHeaders,
    ).toEqual(['content-type', 'x-tenant']);
  });

  it('keeps the function that restores a request', () => {
    const restore = (): void => undefined;
    expect(resolveCompleter({ restore })?.restore).toBe(restore);
  });

  const wrong: [option: string, value: unknown, received: string, fix: RegExp][] = [
    ['completer', 'yes', "'yes'", /false, true, or an object/],
    ['completer', null, 'null', /false, true, or an object/],
    ['completer', 5, '5', /false, true, or an object/],
    ['completer', [], '[]', /false, true, or an object/],
    ['completer.every', { every: 5 }, '5', /no such option/],
    ['completer.constructor', { constructor: 5 }, '5', /no such option/],
    ['completer.after', { after: '9ms' }, "'9ms'", /from 10 ms/],
    ['completer.after', { after: '25d' }, "'25d'", /to 2147483647 ms/],
    ['completer.after', { after: 'soon' }, "'soon'", /milliseconds/],
    ['completer.interval', { interval: 9 }, '9', /from 10 ms/],
    ['completer.interval', { interval: '13d' }, "'13d'", /to 1073741823 ms/],
    ['completer.concurrency', { concurrency: 0 }, '0', /integer from 1 to 100/],
    ['completer.concurrency', { concurrency: 101 }, '101', /integer from 1 to 100/],
    ['completer.concurrency', { concurrency: 1.5 }, '1.5', /integer/],
    ['completer.restore', { restore: true }, 'true', /a function/],
    ['completer.requestHeaders', { requestHeaders: 'Accept' }, "'Accept'", /array of header names/],
    ['completer.requestHeaders', { requestHeaders: [5] }, '[ 5 ]', /array of header names/],
    ...[
      'Authorization',
      'AUTHORIZATION',
      'Proxy-Authorization',
      'Cookie',
      'X-Api-Key',
      'X-CSRF-Token',
      'X-XSRF-Token',
    ].map((name): [string, unknown, string, RegExp] => [
      'completer.requestHeaders',
      { requestHeaders: ['Accept', name] },
      `'${name.toLowerCase()}'`,
      /a credential must not be stored/,
    ]),
  ];
  it.each(wrong)('refuses %s in %o, naming option, value and fix', (option, value, received, fix) => {
    const fault = faultOf(() => resolveCompleter(value as CompleterOptions));
    expect(fault.option).toBe(option);
    expect(fault.message.startsWith(`${option}: received ${received}. `)).toBe(true);
    expect(fault.message).toMatch(fix);
  });
});
