import { ConflictException } from '@nestjs/common';
import { Idempotent } from 'nestjs-pg-idempotency';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openStage, type Scene, scripted, type StagedApp } from './support/stage.js';
import { until } from './support/until.js';

describe.each(['transaction', 'lease'] as const)('afterCommit() in %s mode', (mode) => {
  let app: StagedApp;

  beforeAll(async () => {
    app = await openStage({ controllers: [scripted('route', Idempotent({ mode, scope: false }))] });
  });
  afterAll(() => app.close());
  afterEach(() => app.quiet());

  it('runs when the outcome is committed, once, and sees it', async () => {
    const seen: unknown[] = [];
    const label = app.play(async ({ attempt, write }: Scene) => {
      attempt.afterCommit(async () => {
        seen.push((await app.record(label)).status, await app.effects(label));
        await write('after');
      });
      await write('in the handler');
      expect(seen).toEqual([]);
      return 'done';
    });
    await app.postTo('route', label);
    await until('it has run', async () => (await app.effects(label)) === 2);
    const retry = await app.postTo('route', label);
    expect(await app.notes(label)).toEqual(['in the handler', 'after']);
    expect(seen).toEqual(['completed', 1]);
    expect(retry.status).toBe(200);
  });

  it('does not hold up the answer, and does not change it when it fails', async () => {
    const ran: string[] = [];
    const label = app.play(({ attempt }: Scene) => {
      attempt.afterCommit(() => {
        ran.push('first');
        throw new Error('no');
      });
      attempt.afterCommit(() => {
        ran.push('second');
        return new Promise(() => undefined);
      });
      return 'done';
    });
    const answer = await app.postTo('route', label);
    await until('both have been begun', () => ran.length === 2);
    expect(ran).toEqual(['first', 'second']);
    expect([answer.status, answer.text]).toEqual([201, 'done']);
  });

  it('does not run for an error, final or not', async () => {
    const ran: number[] = [];
    const label = app.play(({ attempt, run }: Scene) => {
      attempt.afterCommit(() => ran.push(run));
      if (run === 1) throw new Error('not yet');
      throw new ConflictException();
    });
    const statuses = [await app.postTo('route', label), await app.postTo('route', label)].map(
      ({ status }) => status,
    );
    const marker = app.play(({ attempt }: Scene) => {
      attempt.afterCommit(() => ran.push(0));
    });
    await app.postTo('route', marker);
    await until('the marker has run', () => ran.includes(0));
    expect(ran).toEqual([0]);
    expect(statuses).toEqual([500, 409]);
  });

  it('is forgotten with the nested transaction or phase that was rolled back', async () => {
    const ran: string[] = [];
    const label = app.play(async ({ attempt, dataSource }: Scene) => {
      const inside = (note: string, fails: boolean) => (): void => {
        attempt.afterCommit(() => ran.push(note));
        if (fails) throw new Error(note);
      };
      if (mode === 'lease') {
        await attempt.phase('kept', inside('kept', false));
        await attempt.phase('lost', inside('lost', true)).catch(() => undefined);
      } else {
        await dataSource.transaction(async () => inside('kept', false)());
        await dataSource.transaction(async () => inside('lost', true)()).catch(() => undefined);
        await dataSource
          .transaction(async () => {
            await dataSource.transaction(async () => inside('lost with the outer one', false)());
            throw new Error('outer');
          })
          .catch(() => undefined);
      }
      attempt.afterCommit(() => ran.push('last'));
      return 'done';
    });
    await app.postTo('route', label);
    await until('the last one has run', () => ran.includes('last'));
    expect(ran).toEqual(['kept', 'last']);
  });

  it('refuses what is no function', async () => {
    const label = app.play(({ attempt }: Scene) => attempt.afterCommit('soon' as never));
    const answer = await app.postTo('route', label);
    expect(await app.record(label)).toMatchObject({
      last_error: expect.stringContaining('takes a function'),
    });
    expect(answer.status).toBe(500);
  });
});

describe('steps and phases in transaction mode', () => {
  it('are refused with the fix, and the downstream key is there', async () => {
    const app = await openStage({ controllers: [scripted('route', Idempotent({ scope: false }))] });
    try {
      const errors: string[] = [];
      const label = app.play(async ({ attempt }: Scene) => {
        for (const call of [attempt.step('charge', () => 1), attempt.phase('reserve', () => 1)]) {
          await call.catch((error: Error) => errors.push(error.message));
        }
        return attempt.downstreamKey('charge');
      });
      const { status, text } = await app.postTo('route', label);
      expect(errors).toEqual([
        expect.stringContaining(`step("charge") was called by POST /route/:label`),
        expect.stringContaining("Declare the route with @Idempotent({ mode: 'lease' })"),
      ]);
      expect(status).toBe(201);
      expect(text).toMatch(/^[\da-f]{8}-[\da-f]{4}-8[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
    } finally {
      await app.close();
    }
  });
});
