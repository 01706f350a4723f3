import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isJsonContentType, parseMediaType, withUtf8Charset } from './media-type.js';

describe('withUtf8Charset', () => {
  it.each([
    ['text/html', 'text/html; charset=utf-8'],
    ['Text/HTML;charset=ISO-8859-1', 'text/html; charset=utf-8'],
    ['text/csv; header=present', 'text/csv; header=present; charset=utf-8'],
    ['text/plain; title="a;b\\"c"', 'text/plain; title="a;b\\"c"; charset=utf-8'],
    ['text/plain; CHARSET="utf-8"; x=1', 'text/plain; charset=utf-8; x=1'],
  ])('forms %s as %s', (from, to) => {
    expect(withUtf8Charset(from)).toBe(to);
  });

  it.each(['image/', '/png', 'text', '', 'a b/c'])('refuses %j', (malformed) => {
    expect(withUtf8Charset(malformed)).toBeUndefined();
  });

  it('changes nothing about its own result', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (name, value) => {
        const once = withUtf8Charset(`text/x; ${name}="${value}"`);
        if (once !== undefined) expect(withUtf8Charset(once)).toBe(once);
      }),
    );
  });
});

describe('parseMediaType', () => {
  it('takes the first of two parameters of one name, in any case', () => {
    expect(parseMediaType('A/B; X=1; x=2')).toEqual({ type: 'a/b', parameters: new Map([['x', '1']]) });
  });
  it('knows no type in an absent header', () => {
    expect(parseMediaType(undefined)).toBeUndefined();
  });
});

describe('isJsonContentType', () => {
  it.each([
    ['application/json', true],
    ['application/json; charset=utf-8', true],
    ['application/problem+json', true],
    ['text/plain', false],
    ['application/jsonp-not', true],
    ['image/svg+xml', false],
  ])('judges %s as %s, as the adapters of Nest do', (contentType, json) => {
    expect(isJsonContentType(contentType)).toBe(json);
  });
});
