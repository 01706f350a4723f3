import { HttpException, UseInterceptors } from '@nestjs/common';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ImpatientInterceptor } from './support/impatient.interceptor.js';
import { lease, openStage, outline, type Scene, scripted, type StagedApp } from './support/stage.js';
import { deferred, until } from './support/until.js';

describe('steps and phases', () => {
  let app: StagedApp;

  beforeAll(async () => {
    app = await openStage({
      controllers: [
        scripted('lease', lease()),
        scripted('impatient', lease(), UseInterceptors(ImpatientInterceptor)),
      ],
    });
  });
  afterAll(() => app.close());
  afterEach(() => app.quiet());

  const lastError = async (label: string): Promise<string | null> => (await app.record(label)).last_error;

  it('refuse a name that was used already', async () => {
    const label = app.play(async ({ attempt }: Scene) => {
      await attempt.step('charge', () => 1);
      await attempt.phase('charge', () => 2);
    });
    const answer = await app.postTo('lease', label);
    expect(await lastError(label)).toContain(
      'StepOrderError: POST /lease/:label: the name "charge" was used twice',
    );
    expect(answer.status).toBe(500);
  });

  it.each<[string, (scene: Scene) => Promise<unknown>, string]>([
    [
      'another order',
      async ({ attempt, run }) => {
        const names = run === 1 ? ['reserve', 'charge'] : ['charge', 'reserve'];
        for (const name of names) await attempt.step(name, () => run);
        throw new Error('not yet');
      },
      'step "charge" is number 1 now, and was number 2 when it was done',
    ],
    [
      'another name in its place',
      async ({ attempt, run }) => {
        await attempt.step(run === 1 ? 'reserve' : 'hold', () => run);
        throw new Error('not yet');
      },
      'step "hold" stands where attempt 1 did the step "reserve"',
    ],
    [
      'a phase that was a step',
      async ({ attempt, run }) => {
        await (run === 1 ? attempt.step('reserve', () => run) : attempt.phase('reserve', () => run));
        throw new Error('not yet');
      },
      '"reserve" is a phase now, and was a step when it was done',
    ],
    [
      'an end before something that was done',
      async ({ attempt, run }) => {
        if (run === 1) await attempt.step('charge', () => run);
        if (run === 1) throw new Error('not yet');
        return 'nothing to pay';
      },
      'the handler ended without step "charge" (attempt 1), which was done before',
    ],
  ])('refuse %s than the journal has, and record no answer', async (_, script, fault) => {
    const label = app.play(script);
    await app.postTo('lease', label);
    const second = await app.postTo('lease', label);
    expect(await app.record(label)).toMatchObject({ status: 'pending', attempt: 2 });
    expect(await lastError(label)).toContain(fault);
    expect(second.status).toBe(500);
  });

  it('refuse one inside a phase', async () => {
    const label = app.play(async ({ attempt, write }: Scene) =>
      attempt.phase('outer', async () => {
        await write();
        await attempt.step('inner', () => 1);
      }),
    );
    await app.postTo('lease', label);
    expect(await app.effects(label)).toBe(0);
    expect(await lastError(label)).toContain('the step "inner" was begun inside the phase "outer"');
  });

  it('refuse one inside a step', async () => {
    const label = app.play(async ({ attempt }: Scene) =>
      attempt.step('outer', () => attempt.step('inner', () => 1)),
    );
    await app.postTo('lease', label);
    expect(await lastError(label)).toContain('the step "inner" was begun inside the step "outer"');
  });

  it('record no answer of a handler that did not wait for one, and let nobody begin before it has ended', async () => {
    const gate = deferred();
    const charges: number[] = [];
    const label = app.play(({ attempt, run }: Scene) => {
      const charging = attempt.step('charge', async () => {
        charges.push(run);
        await gate.promise;
        return run;
      });
      return run === 1 ? 'done' : charging;
    });
    const first = app.postTo('lease', label);
    await until('the step runs', () => charges.length === 1);
    const meanwhile = await app.postTo('lease', label);
    gate.resolve();
    const { status } = await first;
    const second = await app.postTo('lease', label);
    expect(charges).toEqual([1]);
    expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 2 });
    expect(await lastError(label)).toBeNull();
    expect([meanwhile.status, status, outline(second)]).toEqual([409, 500, { status: 201, text: '1' }]);
  });

  it('are waited for when another one beside them has failed, so that what they came to is kept', async () => {
    const gate = deferred();
    const charges: string[] = [];
    const label = app.play(async ({ attempt, run }: Scene) =>
      Promise.all([
        attempt.step('charge', async () => {
          charges.push('charge');
          await gate.promise;
          return 'charged';
        }),
        attempt.step('notify', () => {
          charges.push('notify');
          if (run === 1) throw new Error('not yet');
          return 'notified';
        }),
      ]),
    );
    const first = app.postTo('lease', label);
    await until('both have begun', () => charges.length === 2);
    const meanwhile = await app.postTo('lease', label);
    gate.resolve();
    expect((await first).status).toBe(500);
    const second = await app.postTo('lease', label);
    expect(charges).toEqual(['charge', 'notify', 'notify']);
    expect([meanwhile.status, outline(second)]).toEqual([
      409,
      { status: 201, text: '["charged","notified"]' },
    ]);
  });

  it.each(['step', 'phase'] as const)(
    'are done once when an interceptor runs the handler again while a %s is still going on',
    async (kind) => {
      const gate = deferred();
      const label = app.play(async ({ attempt, run, write }: Scene) => {
        return attempt[kind]('charge', async () => {
          await write(`run ${run}`);
          await gate.promise;
          return run;
        });
      });
      const answer = app.postTo('impatient', label);
      // Later than the interceptor gives up on the first run.
      setTimeout(() => gate.resolve(), 300);
      const { status, text } = await answer;
      expect(await app.notes(label)).toEqual(['run 1']);
      expect({ status, text }).toEqual({ status: 201, text: '1' });
    },
  );

  it('give back what they came to in the same form the first time and later', async () => {
    const results: unknown[] = [];
    const label = app.play(async ({ attempt, run }: Scene) => {
      results.push([
        await attempt.step('json', () => ({ at: new Date(0), missing: undefined, list: [1, null, 'x'] })),
        await attempt.step('bytes', () => Buffer.from([0, 255])),
        await attempt.step('nothing', () => undefined),
        await attempt.phase('null', () => null),
      ]);
      if (run === 1) throw new Error('not yet');
      return 'done';
    });
    await app.postTo('lease', label);
    await app.postTo('lease', label);
    expect(results[0]).toEqual([
      { at: '1970-01-01T00:00:00.000Z', list: [1, null, 'x'] },
      Buffer.from([0, 255]),
      undefined,
      null,
    ]);
    expect(results[1]).toEqual(results[0]);
  });

  it('fail on a result that cannot be journaled, and leave the step to be run again', async () => {
    const label = app.play(async ({ attempt }: Scene) => {
      await attempt.step('big', () => 1n as unknown as number);
    });
    const answer = await app.postTo('lease', label);
    expect(await lastError(label)).toContain(
      'StepNotJournaledError: The step "big" of POST /lease/:label is done',
    );
    expect(answer.status).toBe(500);
  });

  it('throw a final error again in every attempt, without running the step again', async () => {
    let calls = 0;
    const thrown: unknown[] = [];
    const label = app.play(async ({ attempt, run }: Scene) => {
      const isFinal = (error: unknown): boolean => error instanceof HttpException;
      try {
        await attempt.step(
          'charge',
          () => {
            calls++;
            throw new HttpException({ declined: 'card' }, 402);
          },
          { isFinal },
        );
      } catch (error) {
        thrown.push([(error as HttpException).getStatus(), (error as HttpException).getResponse()]);
        if (run === 2) throw error;
      }
      throw new Error('not yet');
    });
    await app.postTo('lease', label);
    const second = await app.postTo('lease', label);
    expect(calls).toBe(1);
    expect(thrown).toEqual([
      [402, { declined: 'card' }],
      [402, { declined: 'card' }],
    ]);
    expect(outline(second)).toEqual({ status: 402, text: '{"declined":"card"}' });
  });

  it('hand out one downstream key per record and name, the same in every attempt', async () => {
    const keys: string[] = [];
    const script = async ({ attempt, run }: Scene): Promise<string> => {
      keys.push(attempt.downstreamKey('charge'), attempt.downstreamKey('refund'));
      if (run === 1) throw new Error('not yet');
      return 'done';
    };
    const [one, two] = [app.play(script), app.play(script)];
    for (const label of [one, one, two]) await app.postTo('lease', label);
    expect(keys.slice(0, 2)).toEqual(keys.slice(2, 4));
    expect(new Set(keys).size).toBe(4);
  });
});
