import { describe, expect, it } from 'vitest';
import type { ExpressResponse } from './platform.js';
import {
  isNeverReplayed,
  NEVER_REPLAYED_HEADERS,
  setStoredHeaders,
  storedHeaders,
} from './replay-headers.js';

function responseWith(headers: Record<string, string | number | string[]>): ExpressResponse {
  const present = new Map(Object.entries(headers));
  return {
    statusCode: 200,
    getHeader: (name) => present.get(name.toLowerCase()),
    setHeader: (name, value) => present.set(name.toLowerCase(), value),
    removeHeader: (name) => void present.delete(name),
  };
}

describe('storedHeaders', () => {
  it('keeps the allow-listed headers that are set, in lower case and as text', () => {
    const response = responseWith({ location: '/1', link: ['<a>', '<b>'], etag: '"1"', 'x-count': 3 });
    expect(storedHeaders(response, ['Location', 'LINK', 'X-Count', 'Last-Modified'])).toEqual({
      location: '/1',
      link: '<a>, <b>',
      'x-count': '3',
    });
  });

  it('keeps the type and the coding of the content whatever the list says', () => {
    const response = responseWith({ 'content-type': 'a/b', 'content-encoding': 'gzip' });
    expect(storedHeaders(response, [])).toEqual({ 'content-type': 'a/b', 'content-encoding': 'gzip' });
  });

  it('prefers the headers that the answer brings along', () => {
    const own = new Map([['location', '/own']]);
    expect(storedHeaders(responseWith({ location: '/1' }), ['location'], own)).toEqual({ location: '/own' });
  });

  it.each([...NEVER_REPLAYED_HEADERS, 'Proxy-Anything', 'SET-COOKIE'])('never keeps %s', (name) => {
    expect(isNeverReplayed(name)).toBe(true);
    expect(storedHeaders(responseWith({ [name.toLowerCase()]: 'secret' }), [name])).toEqual({});
  });

  it('lets other headers be listed', () => {
    expect(isNeverReplayed('x-request-cost')).toBe(false);
  });
});

describe('setStoredHeaders', () => {
  it('overwrites what is set and says whether it is a replay', () => {
    const response = responseWith({ location: '/old' });
    setStoredHeaders(response, { location: '/new' }, true);
    expect([response.getHeader('location'), response.getHeader('idempotent-replayed')]).toEqual([
      '/new',
      'true',
    ]);
  });
});
