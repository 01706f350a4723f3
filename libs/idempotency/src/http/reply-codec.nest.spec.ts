import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import type { INestApplication } from '@nestjs/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Answer,
  boot,
  call,
  captured,
  settings,
  upstream,
} from '../../../../test/support/results-app.js';

const visible = ({ status, body, headers }: Answer): unknown => ({ status, body, headers });

const STORABLE = [
  'object',
  'empty-object',
  'array',
  'string',
  'empty-string',
  'html',
  'csv-params',
  'json-string',
  'vendor-json',
  'json-charset',
  'vendor-json-params',
  'null',
  'undefined',
  'null-with-type',
  'no-content',
  'no-content-with-value',
  'reset-content',
  'number',
  'zero',
  'nan',
  'true',
  'false',
  'date-inside',
  'date',
  'exotic',
  'to-json',
  'text',
  'text-string',
  'bom-string',
  'buffer',
  'buffer-typed',
  'uint8array',
  'created',
  'passthrough',
  'status-field',
  'status-field-typed',
  'error-with-status',
  'promise',
  'observable',
  'emitted-promise',
  'file',
  'file-text',
  'file-shouting',
  'file-empty',
  'file-stream',
  'file-objects',
  'generator',
  'generator-text',
  'generator-empty',
  'readable',
  'web-stream',
  'web-response',
  'web-response-bytes',
  'web-response-empty',
  'redirect',
  'redirect-chosen',
  'encoded',
  'fastify-serializer',
  'fastify-serializer-untyped',
  'fastify-serializer-string',
  'fetched',
  'null-prototype',
  'array-buffer-chunks',
];

/** Storable on one platform, refused by the other itself. */
const DIFFERENT = ['returned-error', 'to-json-nothing', 'bigint', 'symbol', 'function', 'object-as-text'];

const UNSTORABLE = [
  'bigint-inside',
  'circular',
  'large',
  'large-file',
  'large-file-stream',
  'large-generator',
  'large-web-response',
  'wrapped-stream',
];

let server: Server;
beforeAll(async () => {
  server = createServer((_, response) => {
    response.setHeader('Content-Type', 'text/plain');
    response.setHeader('Content-Encoding', 'gzip');
    response.setHeader('Set-Cookie', ['u=1', 'v=2']);
    response.end(gzipSync('from upstream'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  upstream.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

describe.each(['express', 'fastify'] as const)('on %s', (platform) => {
  let plain: INestApplication;
  let capturing: INestApplication;

  beforeAll(async () => {
    captured.clear();
    [plain, capturing] = await Promise.all([boot(platform, false), boot(platform, true)]);
  });
  afterAll(async () => {
    await Promise.all([plain.close(), capturing.close()]);
  });

  it.each(STORABLE)('answers %s as the route alone does, first and replayed', async (path) => {
    const alone = await call(plain, path);
    const first = await call(capturing, path);
    const replayed = await call(capturing, path, { 'x-replay': 'yes' });
    expect(visible(first)).toEqual(visible(alone));
    expect(visible(replayed)).toEqual(visible(alone));
    expect(first.own).toEqual(alone.own);
    expect([first.marker, replayed.marker]).toEqual(['false', 'true']);
    expect(captured.get(`/${path}`)?.kind).toBe('storable');
  });

  it.each(UNSTORABLE)('answers %s as the route alone does and keeps no bytes of it', async (path) => {
    const alone = await call(plain, path);
    const first = await call(capturing, path);
    expect(visible(first)).toEqual(visible(alone));
    expect(first.own).toEqual(alone.own);
    expect(captured.get(`/${path}`)?.kind).toBe('unstorable');
  });

  it('sends the cookies and own headers of a web Response the first time only', async () => {
    const first = await call(capturing, 'web-response');
    const replayed = await call(capturing, 'web-response', { 'x-replay': 'yes' });
    expect(first.own).toEqual({ cookies: ['a=1', 'b=2'], other: 'own' });
    expect(replayed.own).toEqual({ cookies: [], other: null });
    expect(replayed.headers['location']).toBe('/web/1');
  });

  it.each(DIFFERENT)(
    'answers %s as the route alone does, whatever the platform makes of it',
    async (path) => {
      const alone = await call(plain, path);
      expect(visible(await call(capturing, path))).toEqual(visible(alone));
      if (captured.get(`/${path}`)?.kind === 'storable') {
        expect(visible(await call(capturing, path, { 'x-replay': 'yes' }))).toEqual(visible(alone));
      } else {
        expect(platform).toBe('fastify');
      }
    },
  );
});

describe('across platforms', () => {
  it.each(['text', 'string', 'buffer', 'null', 'undefined', 'file', 'generator', 'web-response'])(
    'replays on Fastify what Express stored for %s, and the other way round',
    async (path) => {
      const apps = await Promise.all([boot('express', true), boot('fastify', true)]);
      const [express, fastify] = apps;
      try {
        const onExpress = await call(express, path);
        expect(visible(await call(fastify, path, { 'x-replay': 'yes' }))).toEqual(visible(onExpress));
        const onFastify = await call(fastify, path);
        expect(visible(await call(express, path, { 'x-replay': 'yes' }))).toEqual(visible(onFastify));
      } finally {
        await Promise.all(apps.map((app) => app.close()));
      }
    },
  );
});

describe('the ETag that Express makes', () => {
  it('is the same first, replayed, and without us', async () => {
    const apps = await Promise.all([boot('express', false), boot('express', true)]);
    const [plain, capturing] = apps;
    const tag = async (app: INestApplication, headers = {}): Promise<string | null> => {
      const response = await fetch(`${await app.getUrl()}/object`, { method: 'POST', headers });
      await response.arrayBuffer();
      return response.headers.get('etag');
    };
    try {
      const alone = await tag(plain);
      expect(alone).toMatch(/^W\//);
      expect([await tag(capturing), await tag(capturing, { 'x-replay': 'yes' })]).toEqual([alone, alone]);
    } finally {
      await Promise.all(apps.map((app) => app.close()));
    }
  });
});

describe('with JSON settings of the Express application', () => {
  it.each(['spaces', 'escape', 'replacer'] as const)('applies json %s once', async (setting) => {
    settings[setting] = true;
    captured.clear();
    const apps = await Promise.all([boot('express', false), boot('express', true)]);
    const [plain, capturing] = apps;
    try {
      for (const path of ['object', 'text']) {
        const alone = await call(plain, path);
        expect(visible(await call(capturing, path))).toEqual(visible(alone));
        expect(visible(await call(capturing, path, { 'x-replay': 'yes' }))).toEqual(visible(alone));
      }
    } finally {
      settings[setting] = false;
      await Promise.all(apps.map((app) => app.close()));
    }
  });
});
