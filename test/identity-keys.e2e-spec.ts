import net from 'node:net';
import { describe, expect, it } from 'vitest';
import { PLATFORMS } from './support/app.js';
import { type Answer, send } from './support/http.js';
import {
  app,
  counts,
  database,
  expectProblem,
  expectReplay,
  post,
  start,
  useIdentity,
} from './support/identity.js';

/** Bytes on a socket of our own: what clients would not let us send. Answers what came back. */
function sendBytes(url: string, headerLines: (string | Buffer)[], body = '{}'): Promise<Answer> {
  const { hostname, port, pathname } = new URL(url);
  const line = (text: string | Buffer): Buffer =>
    Buffer.concat([Buffer.from(text as string), Buffer.from('\r\n')]);
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), hostname, () => {
      socket.write(
        Buffer.concat([
          line(`POST ${pathname} HTTP/1.1`),
          line('Host: localhost'),
          line('Connection: close'),
          line('Content-Type: application/json'),
          line(`Content-Length: ${Buffer.byteLength(body)}`),
          ...headerLines.map(line),
          line(body === '' ? '' : `\r\n${body}`),
        ]),
      );
    });
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => {
      const [head = '', ...rest] = Buffer.concat(chunks).toString('utf8').split('\r\n\r\n');
      const [status = '', ...headers] = head.split('\r\n');
      const text = rest.join('\r\n\r\n');
      resolve({
        status: Number(status.split(' ')[1]),
        headers: Object.fromEntries(
          headers.map((header) => {
            const colon = header.indexOf(':');
            return [header.slice(0, colon).toLowerCase(), header.slice(colon + 1).trim()];
          }),
        ),
        body: Buffer.from(text),
        text,
        json: <T>() => JSON.parse(text) as T,
      });
    });
  });
}

describe.each(PLATFORMS)('identity of a request on %s', (platform) => {
  useIdentity(platform);

  describe('a key that is none', () => {
    const expectNothing = async (): Promise<void> => {
      expect(await counts()).toEqual({ effects: 0, records: 0 });
    };

    it('is required', async () => {
      const answer = await post('/orders/1/items', undefined);
      await expectNothing();
      expectProblem(answer, 400, 'IDEMPOTENCY_KEY_REQUIRED');
    });

    it.each<[what: string, key: string | string[]]>([
      ['empty', ''],
      ['blank', '   '],
      ['an empty string in quotes', '""'],
      ['blank in quotes', '"  "'],
      ['256 characters', 'k'.repeat(256)],
      ['256 characters in quotes', `"${'k'.repeat(256)}"`],
      ['an unfinished quote', '"k'],
      ['two quoted strings', '"a" "b"'],
      ['quoted with a parameter', '"a";p=1'],
      ['two in one line', 'a, b'],
      ['with a tab inside', 'a\tb'],
      ['with a tab in quotes', '"a\tb"'],
      ['an array of one header twice', ['k', 'k']],
      ['an array of two', ['a', 'b']],
      ['an array with an empty one', ['a', '']],
      ['latin-1', 'schl\u00fcssel'],
      ['a control character of latin-1, in quotes', '"a\u0080b"'],
    ])('is refused with 400 when it is %s', async (_what, key) => {
      const answer = await post('/orders/1/items', key);
      await expectNothing();
      expectProblem(answer, 400, 'IDEMPOTENCY_KEY_INVALID');
    });

    it.each<[what: string, lines: (string | Buffer)[]]>([
      ['empty', ['Idempotency-Key:']],
      ['in two lines', ['Idempotency-Key: k', 'Idempotency-Key: k']],
      ['in two lines of other case', ['idempotency-key: k', 'IDEMPOTENCY-KEY: k']],
      ['in two lines, one of them empty', ['Idempotency-Key: k', 'Idempotency-Key:']],
      ['in two lines, the first one empty', ['Idempotency-Key:', 'Idempotency-Key: k']],
      ['in UTF-8', [Buffer.from('Idempotency-Key: schlüssel')]],
      ['an emoji', [Buffer.from('Idempotency-Key: 🔑')]],
      [
        'bytes that are no UTF-8',
        [Buffer.concat([Buffer.from('Idempotency-Key: a'), Buffer.from([0xff, 0xfe])])],
      ],
    ])('is refused with 400 on the wire when it is %s', async (_what, lines) => {
      const answer = await sendBytes(`${app.url}/orders/1/items`, lines);
      await expectNothing();
      expectProblem(answer, 400, 'IDEMPOTENCY_KEY_INVALID');
    });

    // Node's own parser refuses these before any application sees the request: a 400 without a body of ours.
    it.each([0x00, 0x01, 0x08, 0x0b, 0x1b, 0x7f])(
      'is refused with 400 by Node when it holds the byte 0x%s',
      async (byte) => {
        const answer = await sendBytes(`${app.url}/orders/1/items`, [
          Buffer.concat([Buffer.from('Idempotency-Key: a'), Buffer.from([byte]), Buffer.from('b')]),
        ]);
        await expectNothing();
        expect(answer.status).toBe(400);
        expect(answer.headers['content-type'] ?? '').not.toContain('problem');
      },
    );

    it('is never told by a problem document', async () => {
      const secret = 'S3cret-of-a-caller';
      const answers = [
        await post('/orders/1/items', `${secret}\t`.repeat(2)),
        await post('/orders/1/items', `"${secret}`),
        await post('/orders/1/items', secret.repeat(20)),
        await post('/orders/uuid', secret),
        await post('/orders/pattern', secret),
        await post('/orders/1/items', secret),
        await post('/orders/1/items', secret, { body: { other: true } }),
      ];
      expect(answers.map(({ status }) => status)).toEqual([400, 400, 400, 400, 400, 201, 422]);
      for (const answer of answers.filter(({ status }) => status !== 201)) {
        expect(answer.text).not.toContain('S3cret');
        expect(JSON.stringify(answer.headers)).not.toContain('S3cret');
      }
    });
  });

  describe('a key', () => {
    it('works with 255 characters', async () => {
      const key = 'k'.repeat(255);
      const first = await post('/orders/1/items', key);
      expect(await database.rows('SELECT length(key) AS length FROM idempotency_keys')).toEqual([
        { length: 255 },
      ]);
      expect(first.status).toBe(201);
      expectReplay(await post('/orders/1/items', `"${key}"`), first);
      expectProblem(await post('/orders/1/items', `${key}k`), 400, 'IDEMPOTENCY_KEY_INVALID');
    });

    it.each([
      `'; DROP TABLE idempotency_keys; --`,
      `' OR '1'='1`,
      String.raw`\x27\'`,
      '$1::text',
      '__proto__',
      'constructor',
      'toString',
      'null',
      'undefined',
      '0',
      '%00',
      '${7*7}',
      '!~',
    ])('works as %s', async (key) => {
      const first = await post('/orders/1/items', key);
      const again = await post('/orders/1/items', key);
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(await database.rows('SELECT key FROM idempotency_keys')).toEqual([{ key }]);
      expect(first.status).toBe(201);
      expectReplay(again, first);
    });

    const uuidv4 = '2f1f1d3c-8d0a-4c3e-9a56-3c9c0e2f7b11';
    const uuidv7 = '0190163d-8694-739b-aea5-966c26f8ad91';
    it.each<[route: string, good: string[], bad: string[]]>([
      [
        'uuid',
        [uuidv4, uuidv7, uuidv4.toUpperCase(), `"${uuidv4.replace('2f', '3f')}"`],
        ['k', `${uuidv4}0`, `{${uuidv4}}`, '00000000-0000-0000-0000-000000000000'],
      ],
      ['uuidv7', [uuidv7], [uuidv4, 'k']],
      ['pattern', ['order-1', 'order-22'], ['order-', 'order-1x', 'xorder-1']],
      ['predicate', ['ok-1'], ['no-1', 'x-ok-1']],
    ])('has the format that the route /orders/%s asks for', async (route, good, bad) => {
      for (const key of bad)
        expectProblem(await post(`/orders/${route}`, key), 400, 'IDEMPOTENCY_KEY_INVALID');
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      for (const key of good) expect((await post(`/orders/${route}`, key)).status).toBe(201);
      expect(await counts()).toEqual({ effects: good.length, records: good.length });
      for (const key of good) expect((await post(`/orders/${route}`, key)).status).toBe(200);
      expect(await counts()).toEqual({ effects: good.length, records: good.length });
    });

    it('is read from the header that the route names, and from no other', async () => {
      const named = (name: string): Promise<Answer> =>
        post('/orders/header', undefined, { headers: { [name]: 'k' } });
      const missing = await named('Idempotency-Key');
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      const problem = expectProblem(missing, 400, 'IDEMPOTENCY_KEY_REQUIRED');
      expect(problem.detail.toLowerCase()).toContain('x-request-id');
      const first = await named('X-Request-Id');
      expectReplay(await named('x-request-id'), first);
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectProblem(
        await post('/orders/header', undefined, { headers: { 'X-Request-Id': ['k', 'k'] } }),
        400,
        'IDEMPOTENCY_KEY_INVALID',
      );
    });

    it('may be left out where it is not required, and then protects nothing; an empty one is refused all the same', async () => {
      const free = [await post('/orders/optional', undefined), await post('/orders/optional', undefined)];
      expect(await counts()).toEqual({ effects: 2, records: 0 });
      for (const answer of free) {
        expect(answer.status).toBe(201);
        expect(answer.headers['idempotent-replayed']).toBeUndefined();
      }
      expectProblem(await post('/orders/optional', ''), 400, 'IDEMPOTENCY_KEY_INVALID');
      expectProblem(await post('/orders/optional', ['a', 'b']), 400, 'IDEMPOTENCY_KEY_INVALID');
      expect(await counts()).toEqual({ effects: 2, records: 0 });
      const first = await post('/orders/optional', 'k');
      expectReplay(await post('/orders/optional', 'k'), first);
      expect(await counts()).toEqual({ effects: 3, records: 1 });
    });

    it('belongs to its namespace: two applications on one table do not know of each other', async () => {
      const other = await start({ idempotency: { namespace: 'other', reapInterval: false } });
      try {
        const there = (): Promise<Answer> =>
          send(`${other.url}/orders/1/items`, { body: {}, headers: { 'Idempotency-Key': 'k' } });
        const here = await post('/orders/1/items', 'k');
        const first = await there();
        expect(await counts()).toEqual({ effects: 2, records: 2 });
        expect(first.status).toBe(201);
        expect(first.text).not.toBe(here.text);
        expectReplay(await there(), first);
        expectReplay(await post('/orders/1/items', 'k'), here);
        expect(await counts()).toEqual({ effects: 2, records: 2 });
      } finally {
        await other.close();
      }
    });
  });
});
