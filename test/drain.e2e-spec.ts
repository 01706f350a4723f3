import { Controller, type INestApplication, Post } from '@nestjs/common';
import { IdempotencyModule, Idempotent } from 'nestjs-pg-idempotency';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Drain } from '../libs/idempotency/src/engine/drain.js';
import { IDEMPOTENCY_RUNTIME, type IdempotencyRuntime } from '../libs/idempotency/src/idempotency.runtime.js';
import { PLATFORMS, type TestApp } from './support/app.js';
import { type Answer, send } from './support/http.js';
import { logLines } from './support/log-lines.js';
import {
  openStage,
  outline,
  problemCode,
  type Scene,
  scripted,
  Stage,
  type StagedApp,
  type StageOptions,
} from './support/stage.js';
import { deferred, type Deferred, until } from './support/until.js';

const scope = false;

@Controller('plain')
class PlainController {
  @Post()
  add(): string {
    return 'plain';
  }
}

const opened: StagedApp[] = [];
async function open(options: StageOptions = {}): Promise<StagedApp> {
  const app = await openStage({
    ...options,
    controllers: [
      scripted('tx', Idempotent({ scope })),
      scripted('lease', Idempotent({ scope, mode: 'lease' })),
      scripted('wait', Idempotent({ scope, onInFlight: 'wait', waitTimeout: '30s' })),
      scripted('wait-lease', Idempotent({ scope, mode: 'lease', onInFlight: 'wait', waitTimeout: '30s' })),
      PlainController,
    ],
  });
  opened.push(app);
  return app;
}
afterEach(async () => {
  for (const app of opened.splice(0)) await app.close();
});

/** A handler that writes, and ends when its gate is opened. */
function slow(app: StagedApp): { label: string; entered: Deferred; gate: Deferred } {
  const [entered, gate] = [deferred(), deferred()];
  const label = app.play(async ({ write, run }: Scene) => {
    await write();
    entered.resolve();
    await gate.promise;
    return { run };
  });
  return { label, entered, gate };
}
const refused = (answer: Answer): unknown => ({
  status: answer.status,
  code: problemCode(answer),
  retryAfter: answer.headers['retry-after'],
  connection: answer.headers.connection,
});
const SHUTTING_DOWN = {
  status: 503,
  code: 'IDEMPOTENCY_SHUTTING_DOWN',
  retryAfter: '1',
  connection: 'close',
};
const sendTo = ({ url }: TestApp, path: string, label: string): Promise<Answer> =>
  send(`${url}/${path}/${label}`, { headers: { 'idempotency-key': label }, body: { label } });
const drainOf = ({ app }: { readonly app: INestApplication }): Drain =>
  app.get<IdempotencyRuntime>(IDEMPOTENCY_RUNTIME).drain;
/** Until the instance turns requests with a key away. */
const drains = (app: StagedApp): Promise<unknown> =>
  until('it drains', async () => {
    const label = app.play(() => ({}));
    return (await app.postTo('tx', label)).status === 503;
  });

/** An application that drains while a handler is in flight. */
async function draining(options: StageOptions, path: string) {
  const app = await open(options);
  const { label, entered, gate } = slow(app);
  const first = app.postTo(path, label);
  await entered.promise;
  const closing = app.app.close();
  await drains(app);
  return { app, label, gate, first, closing };
}

describe.each(PLATFORMS)('an application that shuts down, on %s', (platform) => {
  describe.each(['tx', 'lease'])('with a handler of %s in flight', (path) => {
    it('lets it finish, records its answer and sends it', async () => {
      const { app, label, gate, first, closing } = await draining({ platform }, path);
      gate.resolve();
      const answer = await first;
      await closing;
      expect(await app.effects(label)).toBe(1);
      expect((await app.record(label)).status).toBe('completed');
      expect(outline(answer)).toEqual({ status: 201, text: '{"run":1}' });
    });

    it('turns new keys and duplicates away at once, leaves no trace of them, and serves what has no key', async () => {
      const { app, label, gate, first, closing } = await draining({ platform }, path);
      const other = app.play(({ write }: Scene) => write());
      const [fresh, duplicate, plain] = await Promise.all([
        app.postTo(path, other),
        app.postTo(path, label),
        app.post('plain'),
      ]);
      expect(await app.records(other)).toEqual([]);
      expect(app.stage.runs(other)).toBe(0);
      expect(refused(fresh)).toEqual(SHUTTING_DOWN);
      expect(refused(duplicate)).toEqual(SHUTTING_DOWN);
      expect(outline(plain)).toEqual({ status: 201, text: 'plain' });
      gate.resolve();
      expect((await first).status).toBe(201);
      await closing;
    });

    it('answers what it has turned away from another instance, once', async () => {
      const app = await open({ platform });
      const { entered, gate, label } = slow(app);
      const first = app.postTo(path, label);
      await entered.promise;
      const twin = await app.twin();
      try {
        const closing = app.app.close();
        await drains(app);
        const other = app.play(({ write }: Scene) => write());
        twin.app.get(Stage).play(other, ({ write, run }) => write().then(() => ({ run })));
        expect((await app.postTo(path, other)).status).toBe(503);
        const answer = await sendTo(twin, path, other);
        expect(await app.effects(other)).toBe(1);
        expect(answer.status).toBe(201);
        gate.resolve();
        await Promise.all([first, closing]);
      } finally {
        await twin.close();
      }
    });

    it('gives up on a handler that takes longer than drainTimeout, says so, and records it when it ends after all', async () => {
      const lines = logLines();
      onTestFinished(() => void vi.restoreAllMocks());
      const app = await open({ platform, idempotency: { drainTimeout: 300 } });
      const { label, entered, gate } = slow(app);
      const first = app.postTo(path, label);
      await entered.promise;
      const began = performance.now();
      await app.app.get(IdempotencyModule).beforeApplicationShutdown();
      const waited = performance.now() - began;
      gate.resolve();
      const { status } = await first;
      expect(await app.effects(label)).toBe(1);
      expect(status).toBe(201);
      // A timer may be early by less than it can tell.
      expect(waited).toBeGreaterThan(290);
      expect(lines.filter((line) => line.includes('drainTimeout (300 ms)'))).toHaveLength(1);
    });
  });

  it('turns away at once who waits for an attempt of this process', async () => {
    const app = await open({ platform });
    const { label, entered, gate } = slow(app);
    const first = app.postTo('wait', label);
    await entered.promise;
    const waiting = [app.postTo('wait', label), app.postTo('wait', label)];
    await until('all of them are in', () => drainOf(app).size === 3);
    const closing = app.app.close();
    for (const answer of await Promise.all(waiting)) expect(refused(answer)).toEqual(SHUTTING_DOWN);
    gate.resolve();
    expect(outline(await first)).toEqual({ status: 201, text: '{"run":1}' });
    await closing;
    expect(await app.effects(label)).toBe(1);
  });

  it.each([
    ['wait', 'comes to an outcome', 201],
    ['wait', 'fails, so that the key is free', 500],
    ['wait-lease', 'comes to an outcome', 201],
    ['wait-lease', 'fails, so that the key is free', 500],
  ])(
    'turns away at once who waits (%s) for an attempt of another instance, and runs nothing when that %s',
    async (path, _, status) => {
      const app = await open({ platform });
      const twin = await app.twin();
      try {
        const [entered, gate] = [deferred(), deferred()];
        const label = app.play(async ({ write }: Scene) => {
          entered.resolve();
          await gate.promise;
          if (status === 500) throw new Error('out of order');
          await write();
        });
        twin.app.get(Stage).play(label, ({ write }) => write());
        const first = app.postTo(path, label);
        await entered.promise;
        const waiting = sendTo(twin, path, label);
        await until('it waits', async () => {
          // In lease mode nobody waits in the database.
          if (path === 'wait-lease') return drainOf(twin).size === 1;
          const rows = await app.rows(
            `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          );
          return rows.length > 0;
        });
        const closing = twin.close();
        expect(refused(await waiting)).toEqual(SHUTTING_DOWN);
        gate.resolve();
        const answer = await first;
        await closing;
        expect(await app.effects(label)).toBe(status === 201 ? 1 : 0);
        expect(twin.app.get(Stage).runs(label)).toBe(0);
        expect(answer.status).toBe(status);
        // Who was turned away has left nothing that keeps its retry out.
        app.stage.play(label, ({ write }) => write());
        const retry = await app.postTo(path, label);
        expect(await app.effects(label)).toBe(1);
        expect(retry.status).toBe(status === 201 ? 200 : 201);
      } finally {
        await twin.close();
      }
    },
  );
});
