import { BadGatewayException, ConflictException } from '@nestjs/common';
import { IdempotencyEvents, type IdempotencyEvent, IdempotencyModule } from 'nestjs-pg-idempotency';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SETUPS } from './support/app.js';
import { send } from './support/http.js';
import {
  lease,
  openStage,
  outline,
  problemCode,
  type Scene,
  scripted,
  type StagedApp,
} from './support/stage.js';
import { deferred, until } from './support/until.js';

describe.each(SETUPS)('lease mode on $platform (pipeline: $pipeline)', ({ platform, pipeline }) => {
  let app: StagedApp;
  let events: IdempotencyEvent[];

  beforeAll(async () => {
    app = await openStage({
      platform,
      pipeline,
      controllers: [
        scripted('lease', lease()),
        scripted('short', lease({ leaseTtl: 500, maxRuntime: '10s' })),
        // 'fail': what looks abandoned is nobody's to take, and must not be told so.
        scripted('patient', lease({ leaseTtl: 1_000, maxRuntime: '20s', onAbandoned: 'fail' })),
        scripted('bounded', lease({ leaseTtl: 100, maxRuntime: 400 })),
        scripted('waiting', lease({ onInFlight: 'wait', waitTimeout: '20s' })),
      ],
    });
    app.app.get(IdempotencyEvents).events.subscribe((event) => events.push(event));
  });
  afterAll(() => app.close());
  afterEach(() => app.quiet());
  beforeAll(() => void (events = []));

  const steps = (label: string): Promise<unknown[]> =>
    app.rows(
      `SELECT s.name, s.kind, s.position, s.attempt FROM idempotency_steps s JOIN idempotency_keys k USING (key_hash)
        WHERE k.key = $1 ORDER BY s.position`,
      [label],
    );

  it('runs the handler once and replays its answer', async () => {
    const label = app.play(async ({ write, attempt }: Scene) => {
      await write('outside');
      return { attempt: attempt.number };
    });
    const first = await app.postTo('lease', label);
    const second = await app.postTo('lease', label);
    expect(await app.notes(label)).toEqual(['outside']);
    expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 1, lease_until: null });
    expect(outline(first)).toEqual({ status: 201, text: '{"attempt":1}' });
    expect(outline(second)).toEqual({ status: 200, text: '{"attempt":1}' });
    expect(second.headers['idempotent-replayed']).toBe('true');
  });

  it('holds no connection and no transaction while the handler runs', async () => {
    const gate = deferred();
    const label = app.play(async () => {
      await gate.promise;
      return 'done';
    });
    const answer = app.postTo('lease', label);
    await until('the handler runs', () => app.stage.runs(label) === 1);
    await app.quiet();
    expect(await app.record(label)).toMatchObject({ status: 'pending', attempt: 1 });
    expect((await app.postTo('lease', label)).status).toBe(409);
    gate.resolve();
    expect((await answer).status).toBe(201);
  });

  it('keeps the lease of a handler five times longer than it, under 50 retries', async () => {
    const gate = deferred();
    const label = app.play(async ({ write }: Scene) => {
      await write();
      await gate.promise;
      return 'done';
    });
    const began = performance.now();
    const answer = app.postTo('short', label);
    const retries: number[] = [];
    while (retries.length < 50 || performance.now() - began < 2_500) {
      const { status } = await app.postTo('short', label, { 'x-local': String(retries.length) });
      retries.push(status);
    }
    const other = await app.rows(
      `SELECT lease_until > clock_timestamp() AS runs FROM idempotency_keys WHERE key = $1`,
      [label],
    );
    gate.resolve();
    expect(await app.effects(label)).toBe(1);
    expect(other).toEqual([{ runs: true }]);
    expect(new Set(retries)).toEqual(new Set([409]));
    expect((await answer).status).toBe(201);
    expect(app.stage.runs(label)).toBe(1);
  });

  it('goes on from its journal: a step that is done is not done again, and a phase neither', async () => {
    let charges = 0;
    const label = app.play(async ({ attempt, write, run }: Scene) => {
      const order = await attempt.phase('reserve', async () => {
        await write('reserved');
        return { order: 7 };
      });
      const charge = await attempt.step('charge', () => {
        charges++;
        return { charge: attempt.downstreamKey('charge'), at: new Date(0) };
      });
      if (run === 1) throw new BadGatewayException();
      await attempt.phase('confirm', () => write('confirmed'));
      return { ...order, ...charge };
    });
    const first = await app.postTo('lease', label);
    const afterFirst = await app.record(label);
    const second = await app.postTo('lease', label);
    const third = await app.postTo('lease', label);
    expect(await app.notes(label)).toEqual(['reserved', 'confirmed']);
    expect(charges).toBe(1);
    expect(await steps(label)).toEqual([
      { name: 'reserve', kind: 'phase', position: 1, attempt: 1 },
      { name: 'charge', kind: 'step', position: 2, attempt: 1 },
      { name: 'confirm', kind: 'phase', position: 3, attempt: 2 },
    ]);
    expect(afterFirst).toMatchObject({
      status: 'pending',
      attempt: 1,
      last_error: expect.stringContaining('BadGateway'),
    });
    expect(first.status).toBe(502);
    expect(second.status).toBe(201);
    expect(second.json()).toMatchObject({ order: 7, at: '1970-01-01T00:00:00.000Z' });
    expect(outline(third)).toEqual({ status: 200, text: second.text });
  });

  it('rolls a phase back that throws, and runs it again in the next attempt', async () => {
    const label = app.play(async ({ attempt, write, run }: Scene) =>
      attempt.phase('reserve', async () => {
        await write(`run ${run}`);
        if (run === 1) throw new Error('not yet');
        return run;
      }),
    );
    const first = await app.postTo('lease', label);
    expect(await app.notes(label)).toEqual([]);
    expect(await app.record(label)).toMatchObject({ status: 'error', attempt: 1 });
    const second = await app.postTo('lease', label);
    expect(await app.notes(label)).toEqual(['run 2']);
    expect([first.status, outline(second)]).toEqual([500, { status: 201, text: '2' }]);
  });

  it('keeps a record whose first step failed: the other system may have acted', async () => {
    const keys: string[] = [];
    const label = app.play(async ({ attempt, run }: Scene) =>
      attempt.step('charge', () => {
        keys.push(attempt.downstreamKey('charge'));
        if (run === 1) throw new Error('no answer in time');
        return run;
      }),
    );
    const first = await app.postTo('lease', label);
    expect(await app.record(label)).toMatchObject({ status: 'pending', attempt: 1 });
    await app.rows(`UPDATE idempotency_keys SET expires_at = now() - interval '1 s' WHERE key = $1`, [label]);
    const second = await app.postTo('lease', label);
    expect(keys).toHaveLength(2);
    expect(new Set(keys).size).toBe(1);
    expect([first.status, outline(second)]).toEqual([500, { status: 201, text: '2' }]);
  });

  it('keeps it also when the next attempt fails before it comes to that step', async () => {
    const keys: string[] = [];
    const label = app.play(async ({ attempt, run }: Scene) => {
      if (run === 2) throw new Error('nothing is begun yet');
      return attempt.step('charge', () => {
        keys.push(attempt.downstreamKey('charge'));
        if (run === 1) throw new Error('no answer in time');
        return run;
      });
    });
    const [first, second] = [await app.postTo('lease', label), await app.postTo('lease', label)];
    const left = await app.record(label);
    await app.rows(`UPDATE idempotency_keys SET expires_at = now() - interval '1 s' WHERE key = $1`, [label]);
    const third = await app.postTo('lease', label);
    expect(keys).toHaveLength(2);
    expect(new Set(keys).size).toBe(1);
    expect(left).toMatchObject({ status: 'pending', attempt: 2 });
    expect([first.status, second.status, outline(third)]).toEqual([500, 500, { status: 201, text: '3' }]);
  });

  it('replays what was finished after its ttl, for that time again', async () => {
    const label = app.play(async ({ attempt, run, write }: Scene) => {
      await attempt.phase('charge', () => write(`run ${run}`));
      if (run === 1) throw new BadGatewayException();
      return 'done';
    });
    await app.postTo('lease', label);
    await app.rows(
      `UPDATE idempotency_keys
          SET created_at = created_at - interval '30 hours', expires_at = expires_at - interval '30 hours' WHERE key = $1`,
      [label],
    );
    const second = await app.postTo('lease', label);
    const third = await app.postTo('lease', label);
    expect(await app.notes(label)).toEqual(['run 1']);
    expect([outline(second), outline(third)]).toEqual([
      { status: 201, text: 'done' },
      { status: 200, text: 'done' },
    ]);
  });

  it('answers a duplicate 409 while a phase lasts longer than the lease, from another process too', async () => {
    const gate = deferred();
    const label = app.play(async ({ attempt, dataSource }: Scene) =>
      attempt.phase('slow', async () => {
        // Never idle for the length of a lease, and longer than one in all.
        const timer = setInterval(() => void dataSource.query('SELECT 1').catch(() => undefined), 50);
        await gate.promise;
        clearInterval(timer);
        await dataSource.query('SELECT 2');
        return 'done';
      }),
    );
    const twin = await app.twin();
    const answer = app.postTo('patient', label);
    await until('the lease is over', async () => {
      const [row] = await app.rows<{ over: boolean }>(
        'SELECT lease_until < clock_timestamp() AS over FROM idempotency_keys WHERE key = $1',
        [label],
      );
      return row?.over === true;
    });
    const duplicate = await send(`${twin.url}/patient/${label}`, {
      headers: { 'idempotency-key': label },
      body: { label },
    });
    gate.resolve();
    expect((await answer).status).toBe(201);
    await twin.close();
    expect(problemCode(duplicate)).toBe('IDEMPOTENCY_KEY_IN_USE');
    expect(app.stage.runs(label)).toBe(1);
  });

  it('replays an error that the handler decided on, with the phases before it standing', async () => {
    const label = app.play(async ({ attempt, write }: Scene) => {
      await attempt.phase('reserve', () => write('reserved'));
      throw new ConflictException('sold out');
    });
    const first = await app.postTo('lease', label);
    const second = await app.postTo('lease', label);
    expect(await app.notes(label)).toEqual(['reserved']);
    expect([first.status, second.status]).toEqual([409, 409]);
    expect(second.text).toBe(first.text);
    expect(app.stage.runs(label)).toBe(1);
  });

  it('waits for an attempt in flight in the same process and shares its answer', async () => {
    const gate = deferred();
    const label = app.play(async () => {
      await gate.promise;
      return 'shared';
    });
    const first = app.postTo('waiting', label);
    await until('the handler runs', () => app.stage.runs(label) === 1);
    const others = Array.from({ length: 10 }, () => app.postTo('waiting', label));
    gate.resolve();
    const answers = await Promise.all([first, ...others]);
    expect(app.stage.runs(label)).toBe(1);
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      ...Array.from({ length: 10 }, () => 200),
      201,
    ]);
  });

  it('answers that the outcome is unknown when maxRuntime is over, and records a handler that ends after all', async () => {
    const gate = deferred();
    let signal: AbortSignal | undefined;
    const label = app.play(async ({ attempt, write }: Scene) => {
      ({ signal } = attempt);
      await gate.promise;
      await write();
      return { late: true };
    });
    const first = await app.postTo('bounded', label);
    expect(problemCode(first)).toBe('IDEMPOTENCY_OUTCOME_UNKNOWN');
    expect(signal?.aborted).toBe(true);
    expect(events).toContainEqual(expect.objectContaining({ type: 'unknown', resolution: 'unresolved' }));
    gate.resolve();
    await until('the late outcome is recorded', async () => (await app.record(label)).status === 'completed');
    const second = await app.postTo('bounded', label);
    expect(await app.effects(label)).toBe(1);
    expect(outline(second)).toEqual({ status: 200, text: '{"late":true}' });
  });
});

describe('an application that has shut down', () => {
  it('renews no lease any more, and leaves its record to others', async () => {
    const app = await openStage({
      controllers: [scripted('short', lease({ leaseTtl: 200, maxRuntime: '30s' }))],
    });
    try {
      const gate = deferred();
      const label = app.play(async () => {
        await gate.promise;
        return 'done';
      });
      const answer = app.postTo('short', label);
      await until('the handler runs', () => app.stage.runs(label) === 1);
      await app.app.get(IdempotencyModule).onApplicationShutdown();
      await until('the lease is over', async () => {
        const [row] = await app.rows<{ over: boolean }>(
          'SELECT lease_until < clock_timestamp() AS over FROM idempotency_keys WHERE key = $1',
          [label],
        );
        return row?.over === true;
      });
      gate.resolve();
      await answer;
    } finally {
      await app.close();
    }
  });
});

describe('a pool of 2', () => {
  it('serves 50 slow lease-mode handlers at once, while another route stays responsive', async () => {
    const app = await openStage({
      poolSize: 2,
      controllers: [scripted('slow', lease({ leaseTtl: 300, maxRuntime: '30s' })), scripted('bystander')],
    });
    try {
      const gate = deferred();
      const labels = Array.from({ length: 50 }, () =>
        app.play(async ({ attempt, write }: Scene) => {
          await attempt.phase('begin', () => write('begun'));
          await gate.promise;
          await attempt.phase('end', () => write('ended'));
          return 'done';
        }),
      );
      const bystander = app.play(async ({ write }: Scene) => write());
      const alone: number[] = [];
      const beside: number[] = [];
      const visit = async (times: number[]): Promise<void> => {
        const began = performance.now();
        expect((await app.postTo('bystander', bystander)).status).toBe(201);
        times.push(performance.now() - began);
      };
      for (let i = 0; i < 50; i++) await visit(alone);
      const answers = Promise.all(labels.map((label) => app.postTo('slow', label)));
      await until('all have begun', async () => {
        const [row] = await app.rows<{ begun: number }>(
          `SELECT count(*)::int AS begun FROM ledger WHERE note = 'begun'`,
        );
        return row?.begun === 50;
      });
      // Over several leases of all of them.
      const began = performance.now();
      while (performance.now() - began < 1_200) await visit(beside);
      const [held] = await app.rows<{ held: number }>(
        `SELECT count(*)::int AS held FROM idempotency_keys WHERE lease_until > clock_timestamp()`,
      );
      gate.resolve();
      const statuses = (await answers).map(({ status }) => status);
      const p99 = (times: number[]): number =>
        times.toSorted((a, b) => a - b).at(Math.floor(times.length * 0.99)) ?? 0;
      console.log(
        `an undecorated route with a pool of 2: p99 ${p99(alone).toFixed(1)} ms alone, ${p99(beside).toFixed(1)} ms beside 50 lease-mode handlers`,
      );
      expect(held).toEqual({ held: 50 });
      expect(await Promise.all(labels.map((label) => app.notes(label)))).toEqual(
        labels.map(() => ['begun', 'ended']),
      );
      expect(labels.map((label) => app.stage.runs(label))).toEqual(labels.map(() => 1));
      expect(new Set(statuses)).toEqual(new Set([201]));
      expect(Math.max(...beside)).toBeLessThan(1_000);
    } finally {
      await app.close();
    }
  });
});
