import { randomUUID } from 'node:crypto';
import { IncomingMessage, type ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { BadRequestException, ConflictException, StreamableFile } from '@nestjs/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PLATFORMS } from '../../../../test/support/app.js';
import { bootCaller, type CallerApp } from '../../../../test/support/caller-app.js';
import { descriptions, responses, traceOf } from '../../../../test/support/caller-enhancers.js';
import { type Answer, send } from '../../../../test/support/http.js';
import { UnknownRouteError } from '../errors/unknown-route.error.js';
import { DetachedReplyError } from '../http/detached-exchange.js';
import type { RestoreRequest, StoredRequest } from './route-caller.js';

const NOT_REPEATED = new Set(['guard', 'filter', 'own filter']);
const BODY = { quantity: '2', note: 'n', unknown: 'dropped' };

describe.each(PLATFORMS)('a route called again on %s', (platform) => {
  let server: CallerApp;
  beforeAll(async () => {
    server = await bootCaller(platform);
  });
  afterAll(() => server.app.close());

  /** Sends a request; its description is what the interceptor saw. */
  async function request(path: string, body: unknown = {}, headers: Record<string, string> = {}) {
    const run = randomUUID();
    const answer = await send(`${server.url}/${path}`, {
      body,
      headers: { 'x-run': run, 'x-tenant': 'acme', ...headers },
    });
    const stored = descriptions.get(run);
    if (!stored) throw new Error(`${path} was not reached: ${answer.status} ${answer.text}`);
    return { answer, run, stored };
  }

  /** Calls the route of a request, under a name of its own in the trace. */
  function again(stored: StoredRequest, restore?: RestoreRequest) {
    const run = randomUUID();
    const { 'content-length': _, ...headers } = stored.headers;
    const result = server.caller.call({ ...stored, headers: { ...headers, 'x-run': run } }, restore);
    return { run, result };
  }

  /** Sends a request and calls its route again. */
  async function both(path: string, body?: unknown) {
    const first = await request(path, body);
    const { run, result } = again(first.stored);
    const value = await result;
    return {
      answer: first.answer,
      value,
      response: responses.get(run),
      traces: [traceOf(first.run), traceOf(run)],
    };
  }

  const repeated = (events: string[] | undefined): string[] =>
    (events ?? []).filter((event) => !NOT_REPEATED.has(event));
  const jsonOf = ({ text: json }: Answer): unknown => JSON.parse(json);

  it('gives the handler params, body, query, headers and custom parameters through the same pipes', async () => {
    const { answer, value } = await both('orders/o%201/lines/7?page=3&tag=a&tag=b', BODY);
    expect(answer.status).toBe(201);
    expect(JSON.parse(JSON.stringify(value))).toEqual(jsonOf(answer));
    expect(value).toMatchObject({
      order: 'o 1',
      line: 7,
      isLine: true,
      body: { quantity: 2, note: 'n' },
      query: { tag: ['a', 'b'] },
      page: 3,
      header: 'acme',
      tenant: 'http add acme',
    });
    expect(value).not.toHaveProperty('body.unknown');
  });

  it('runs interceptors in the same order, and neither guards nor filters', async () => {
    const { traces } = await both('orders/1/lines/7?page=3', BODY);
    const [sent, called] = traces;
    expect(sent).toContain('guard');
    expect(called).toEqual(repeated(sent));
    expect(called).toEqual(
      expect.arrayContaining([
        'http Orders.add',
        '> app',
        '> global',
        '> controller',
        '> method',
        'handler 1 7 3',
      ]),
    );
  });

  it('runs pipes that are named by their class, and none over request, response and headers', async () => {
    const { answer, value } = await both('orders/piped/name');
    expect(value).toEqual({ name: 'NAME', tenant: 'acme', method: 'POST', status: 201 });
    expect(value).toEqual(jsonOf(answer));
  });

  it('runs interceptors that are named by their class and need other providers', async () => {
    const { answer, value } = await both('orders/enveloped');
    expect(value).toEqual({ data: { inside: true }, counted: true });
    expect(value).toEqual(jsonOf(answer));
  });

  it('has status and headers of decorators on the response before the handler runs', async () => {
    const { answer, value, response } = await both('orders/described');
    expect(value).toEqual(jsonOf(answer));
    expect(response?.statusCode).toBe(202);
    expect(answer.status).toBe(202);
    for (const name of ['x-static', 'x-seen']) {
      expect(response?.getHeader(name)).toBe(answer.headers[name]);
      expect(answer.headers[name]).toBeDefined();
    }
  });

  it('keeps status and headers that the handler sets', async () => {
    const { answer, value, response } = await both('orders/passthrough');
    expect([answer.status, answer.text]).toEqual([203, 'a,b']);
    expect([response?.statusCode, value]).toEqual([203, 'a,b']);
    expect(response?.getHeader('x-own')).toBe(answer.headers['x-own']);
    expect(response?.getHeader('set-cookie')).toEqual(answer.headers['set-cookie']);
    expect(response?.getHeader('content-type')).toMatch(/^text\/csv/);
  });

  it('gives a handler without parameters none', async () => {
    const { answer, value } = await both('orders/bare');
    expect(value).toEqual({ given: 0 });
    expect(value).toEqual(jsonOf(answer));
  });

  it('resolves with a file as the handler returned it', async () => {
    const { answer, value } = await both('orders/file');
    expect(value).toBeInstanceOf(StreamableFile);
    const file = value as StreamableFile;
    expect(file.getHeaders()).toMatchObject({ type: answer.headers['content-type'], disposition: 'inline' });
    expect(await text(file.getStream())).toBe(answer.text);
  });

  it('closes the connection of a file only when the file was read', async () => {
    const { answer, value } = await both('orders/file-of-connection');
    await sleep(20);
    expect(await text((value as StreamableFile).getStream())).toBe(answer.text);
    expect(answer.text).toContain('file-of-connection');
  });

  it('resolves with the last value of an Observable', async () => {
    const { answer, value } = await both('orders/observable');
    expect(value).toEqual({ step: 2 });
    expect(value).toEqual(jsonOf(answer));
  });

  it('rejects with the exception that the handler threw', async () => {
    const first = await request('orders/refused');
    const { run, result } = again(first.stored);
    const error: unknown = await result.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConflictException);
    expect((error as ConflictException).getResponse()).toEqual(jsonOf(first.answer));
    expect(traceOf(first.run)).toContain('filter');
    expect(traceOf(run)).toEqual(repeated(traceOf(first.run)));
  });

  it("leaves out the route's own filters", async () => {
    const first = await request('orders/filtered');
    const { run, result } = again(first.stored);
    await expect(result).rejects.toThrow(ConflictException);
    expect(first.answer.text).toBe('filtered');
    expect(traceOf(run)).toEqual(repeated(traceOf(first.run)));
  });

  it('rejects with what a pipe threw, and does not run the handler', async () => {
    const first = await request('orders/1/lines/7?page=3', { quantity: 'many', note: 1 });
    const { run, result } = again(first.stored);
    const error: unknown = await result.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BadRequestException);
    expect((error as BadRequestException).getResponse()).toEqual(jsonOf(first.answer));
    expect(traceOf(run)).toEqual(repeated(traceOf(first.run)));
    expect(traceOf(run).join()).not.toContain('handler');
  });

  it('makes a request-scoped controller for each call, with the request as REQUEST', async () => {
    const { answer, value, traces } = await both('scoped/x');
    expect(value).toEqual({ label: 'x', same: true, tenant: 'acme', user: undefined });
    expect(JSON.parse(JSON.stringify(value))).toEqual(jsonOf(answer));
    const instances = traces.map((events) => events.find((event) => event.startsWith('instance')));
    expect(new Set(instances).size).toBe(2);
    expect(instances).not.toContain(undefined);
  });

  it('keeps request-scoped calls at the same time apart', async () => {
    const { stored } = await request('scoped/x');
    const values = await Promise.all(
      ['a', 'b', 'c'].map(
        (label) => again({ ...stored, params: { label } }, (restored) => void (restored.user = label)).result,
      ),
    );
    expect(values).toMatchObject(['a', 'b', 'c'].map((label) => ({ label, same: true, user: label })));
  });

  it('lets the caller put back what was not stored', async () => {
    const first = await request('orders/user', {}, { 'x-user': 'u1' });
    expect(jsonOf(first.answer)).toMatchObject({ user: { id: 'u1' } });
    expect(await again(first.stored).result).toMatchObject({ user: undefined });
    const restore: RestoreRequest = async (restored) => {
      await sleep(1);
      restored.user = { id: restored.headers['x-user'] };
    };
    expect(await again(first.stored, restore).result).toEqual(jsonOf(first.answer));
  });

  it('rejects with what putting back threw, and runs nothing', async () => {
    const { stored } = await request('orders/user');
    const { run, result } = again(stored, () => Promise.reject(new Error('no such user')));
    await expect(result).rejects.toThrow('no such user');
    expect(traceOf(run)).toEqual([]);
  });

  it('keeps calls at the same time apart, and the stored request as it was', async () => {
    const { stored } = await request('orders/slow/x', { list: ['first'] });
    const before = structuredClone(stored);
    const labels = ['a', 'b', 'c', 'd'];
    const frozen = Object.freeze({
      ...stored,
      query: Object.freeze({}),
      body: Object.freeze({ list: ['one'] }),
    });
    const values = await Promise.all(
      labels.map(
        (label) =>
          again({
            ...frozen,
            params: Object.freeze({ label }),
            headers: Object.freeze({ ...stored.headers, 'x-tenant': `of ${label}` }),
          }).result,
      ),
    );
    expect(values).toEqual(
      labels.map((label) => ({
        label,
        body: { list: ['one', label] },
        tenant: `of ${label}`,
        header: label,
      })),
    );
    expect(structuredClone(stored)).toEqual(before);
  });

  it('keeps a Buffer a Buffer, and gives each call its own', async () => {
    const { stored } = await request('orders/bytes');
    const body = Buffer.from('bytes');
    const value = await again({ ...stored, body }, (restored) => void (restored.body as Buffer).write('B'))
      .result;
    expect(value).toEqual({ isBuffer: true, text: 'Bytes' });
    expect(body.toString()).toBe('bytes');
  });

  it('makes a request that knows its method, url, header lines and route', async () => {
    for (const name of ['facts', 'facts-of']) {
      const { answer, value } = await both(`orders/${name}/x?a=1`);
      expect(JSON.parse(JSON.stringify(value))).toEqual(jsonOf(answer));
      expect(value).toMatchObject({ pattern: `/orders/${name}/:which`, method: 'POST' });
      if (platform === 'express') expect(value).toMatchObject({ tenant: 'acme' });
    }
  });

  it('makes do without the pattern of the route', async () => {
    const { stored } = await request('orders/facts/x?a=1');
    const { pattern: _, ...unnamed } = stored;
    const pattern = platform === 'express' ? '/orders/facts/:which' : '/orders/facts/x';
    expect(await again(unnamed).result).toMatchObject({ pattern, originalUrl: '/orders/facts/x?a=1' });
  });

  it('calls the method that replaced the declared one at start', async () => {
    const { answer, value } = await both('replaced');
    expect([value, answer.text]).toEqual(['replaced', 'replaced']);
  });

  it.each(['sends', 'pipes'])('refuses a handler that %s the answer by itself', async (name) => {
    const { stored } = await request('orders/bare');
    const { result } = again({ ...stored, route: `Orders.${name}` });
    await expect(result).rejects.toThrow(DetachedReplyError);
    await expect(result).rejects.toThrow(/has no client to answer.*Return the body instead/);
  });

  it('drops an answer that comes after the call', async () => {
    const { stored } = await request('orders/bare');
    expect(await again({ ...stored, route: 'Orders.sendsLate' }).result).toEqual({ returned: true });
    // An error in the timer would fail the run of all tests.
    await sleep(60);
  });

  it('closes the connection when the call is over, and aborts nothing', async () => {
    const { stored } = await request('orders/slow/x', { list: [] });
    const events: string[] = [];
    let raw = new IncomingMessage(new Socket());
    const { run, result } = again(stored, (restored) => {
      raw = (restored['raw'] ?? restored) as IncomingMessage;
      for (const name of ['aborted', 'error']) raw.on(name, () => events.push(name));
    });
    const late = result.finally(() => events.push('result'));
    await sleep(5);
    const response = responses.get(run);
    const outgoing = (response?.raw ?? response) as ServerResponse;
    outgoing.once('close', () => events.push('close'));
    await late;
    await sleep(5);
    expect(events).toEqual(['result', 'close']);
    expect([raw.readableEnded, raw.socket.destroyed, outgoing.destroyed]).toEqual([true, true, true]);
  });

  it('knows which routes there are, and refuses others', async () => {
    const { stored } = await request('orders/bare');
    expect(server.caller.has('Orders.add')).toBe(true);
    for (const route of ['Orders.gone', 'Gone.add', 'Orders.constructor', 'Twin.run']) {
      expect(server.caller.has(route)).toBe(false);
      await expect(server.caller.call({ ...stored, route })).rejects.toThrow(UnknownRouteError);
    }
    await expect(server.caller.call({ ...stored, route: 'Twin.run' })).rejects.toThrow(/several controllers/);
  });

  // Express has neither response schemas nor a reply that can be awaited.
  if (platform === 'express') return;

  it('serialises by the response schema of the route, or as the reply is told', async () => {
    const bySchema = await both('orders/schema');
    expect(bySchema.value).toEqual({ text: '{"shown":"a"}' });
    expect(bySchema.answer.status).toBe(201);
    const own = await both('orders/serializer');
    expect(own.value).toEqual({ text: 'own {"a":1}' });
    expect(own.value).toEqual(jsonOf(own.answer));
  });

  it('refuses to wait for a reply that is never sent', async () => {
    const { stored } = await request('orders/bare');
    const { result } = again({ ...stored, route: 'Orders.returnsReply' });
    await expect(result).rejects.toThrow(DetachedReplyError);
  });
});
