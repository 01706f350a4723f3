import { randomBytes } from 'node:crypto';
import {
  BadGatewayException,
  type CanActivate,
  type ExecutionContext,
  Logger,
  Req,
  UseGuards,
} from '@nestjs/common';
import { Body, Controller, Inject, Param, Post } from '@nestjs/common';
import { type Attempt, CurrentAttempt, Idempotent } from 'nestjs-pg-idempotency';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { PLATFORMS } from './support/app.js';
import { openStage, problemCode, type Scene, scripted, Stage, type StagedApp } from './support/stage.js';
import { until } from './support/until.js';

const GRACE_MS = 100;

/** Lets a request in by a header that is never stored. */
class TokenGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: unknown }>();
    const { authorization } = request.headers;
    if (authorization === undefined) return false;
    request.user = { id: authorization };
    return true;
  }
}

@Controller('guarded')
class GuardedController {
  constructor(@Inject(Stage) private readonly stage: Stage) {}

  @Post(':label')
  @UseGuards(TokenGuard)
  @Idempotent({ mode: 'lease' })
  run(
    @Param('label') label: string,
    @Body() body: unknown,
    @CurrentAttempt() attempt: Attempt,
    @Req() request: { user: { id: string } },
  ): unknown {
    return this.stage.perform(label, {
      body: { ...(body as object), user: request.user.id },
      attempt,
      reply: { status: () => undefined, header: () => undefined },
    });
  }
}

describe.each(PLATFORMS)('the completer on %s', (platform) => {
  let app: StagedApp;

  beforeAll(async () => {
    app = await openStage({
      platform,
      controllers: [
        GuardedController,
        scripted('lease', Idempotent({ mode: 'lease', scope: false })),
        scripted('once', Idempotent({ mode: 'lease', scope: false, onAbandoned: 'fail' })),
        scripted('twice', Idempotent({ mode: 'lease', scope: false, maxAttempts: 1 })),
        scripted('plain', Idempotent({ scope: false })),
      ],
      idempotency: {
        encryptionKeys: [randomBytes(32)],
        completer: {
          after: GRACE_MS,
          interval: 20,
          restore: (request, { scope }) => {
            if (scope === 'mallory') throw new Error('locked by now');
            request.user = { id: scope };
          },
        },
      },
    });
  });
  afterAll(() => app.close());
  afterEach(() => app.quiet());

  const finished = (key: string): Promise<unknown> =>
    until('the record is final', async () => (await app.record(key)).response_status !== null);

  it('finishes what a failed attempt left half done, with nobody asking', async () => {
    const bodies: unknown[] = [];
    const label = app.play(async ({ attempt, write, run, body }: Scene) => {
      bodies.push(body);
      await attempt.phase('reserve', () => write('reserved'));
      if (run === 1) throw new BadGatewayException();
      await attempt.phase('confirm', () => write(`confirmed by attempt ${attempt.number}`));
      return { run };
    });
    const first = await app.postTo('lease', label);
    await finished(label);
    const retry = await app.postTo('lease', label);
    expect(await app.notes(label)).toEqual(['reserved', 'confirmed by attempt 2']);
    expect(bodies).toEqual([{ label }, { label }]);
    expect(await app.record(label)).toMatchObject({ attempt: 2, request: null });
    expect([first.status, retry.status, retry.text]).toEqual([502, 200, '{"run":2}']);
  });

  it('keeps nothing of the request that can be read in the database', async () => {
    const label = app.play(async ({ attempt, run }: Scene) => {
      await attempt.step('look', () => ({ secret: 'open sesame' }));
      if (run === 1) throw new BadGatewayException();
      return 'open sesame';
    });
    await app.post(`lease/${label}`, { key: label, body: { password: 'open sesame' } });
    const [stored] = await app.rows<{ request: Buffer; body: Buffer }>(
      `SELECT request, body FROM idempotency_keys k JOIN idempotency_steps USING (key_hash) WHERE k.key = $1`,
      [label],
    );
    await finished(label);
    const { response_body: answer } = await app.record(label);
    for (const bytes of [stored?.request, stored?.body, answer]) {
      expect(bytes?.length).toBeGreaterThan(20);
      expect(bytes?.includes('sesame')).toBe(false);
    }
    expect((await app.post(`lease/${label}`, { key: label, body: { password: 'open sesame' } })).text).toBe(
      'open sesame',
    );
  });

  it('calls the handler without its guards, for the user that the record belongs to', async () => {
    const bodies: unknown[] = [];
    const label = app.play(async ({ attempt, run, body }: Scene) => {
      bodies.push(body);
      await attempt.phase('begin', () => undefined);
      if (run === 1) throw new BadGatewayException();
      return 'done';
    });
    await app.postTo('guarded', label, { authorization: 'alice' });
    await finished(label);
    const [row] = await app.rows<{ found: boolean }>(
      `SELECT position('alice'::bytea IN coalesce(request, '')) > 0 AS found FROM idempotency_keys WHERE key = $1`,
      [label],
    );
    expect(row).toEqual({ found: false });
    expect(bodies).toEqual([
      { label, user: 'alice' },
      { label, user: 'alice' },
    ]);
    expect((await app.postTo('guarded', label)).status).toBe(403);
  });

  it('gives a request that the handler makes within the process a record of its own', async () => {
    const inner = app.play(async ({ write }: Scene) => write('inner'));
    const request = async (): Promise<unknown> => {
      const headers = { 'idempotency-key': inner };
      const http = app.app.getHttpAdapter().getInstance() as {
        inject?: (options: object) => Promise<unknown>;
      };
      // Fastify's runs in the context of whoever calls it.
      if (http.inject) return http.inject({ method: 'POST', url: `/plain/${inner}`, headers });
      return app.post(`plain/${inner}`, { key: inner });
    };
    const label = app.play(async ({ attempt, run }: Scene) => {
      await attempt.phase('begin', () => undefined);
      if (run === 1) throw new BadGatewayException();
      await request();
      return 'done';
    });
    await app.postTo('lease', label);
    await finished(label);
    expect(await app.notes(inner)).toEqual(['inner']);
    expect(await app.record(inner)).toMatchObject({ status: 'completed' });
    expect((await app.record(label)).response_body).not.toBeNull();
  });

  it('leaves a record alone whose user cannot be put back, and says so once', async () => {
    const warnings = vi.spyOn(Logger.prototype, 'warn');
    const script = async ({ attempt, run }: Scene): Promise<string> => {
      await attempt.phase('begin', () => undefined);
      if (run === 1) throw new BadGatewayException();
      return 'done';
    };
    const [locked, marker] = [app.play(script), app.play(script)];
    await app.postTo('guarded', locked, { authorization: 'mallory' });
    for (let round = 0; round < 2; round++) {
      const next = round === 0 ? marker : app.play(script);
      await app.postTo('guarded', next, { authorization: 'alice' });
      await finished(next);
    }
    const told = warnings.mock.calls.filter(([text]) => String(text).includes('completer.restore failed'));
    warnings.mockRestore();
    expect(app.stage.runs(locked)).toBe(1);
    expect(await app.record(locked)).toMatchObject({ status: 'pending', attempt: 1 });
    expect(told).toHaveLength(1);
    expect(told[0]?.[0]).toContain('stays abandoned: completer.restore failed: Error: locked by now.');
  });

  it('leaves alone what is not to be run again, what has died too often, and transaction mode', async () => {
    const script = async ({ attempt }: Scene): Promise<never> => {
      await attempt.phase('begin', () => undefined);
      throw new BadGatewayException();
    };
    const [once, twice, marker] = [app.play(script), app.play(script), app.play(script)];
    const plain = app.play(() => {
      throw new BadGatewayException();
    });
    await app.postTo('once', once);
    await app.postTo('twice', twice);
    await app.postTo('plain', plain);
    // As if its process had died: the next takeover would be the second attempt in a row.
    await app.rows('UPDATE idempotency_keys SET abandoned = 0 WHERE key = $1', [twice]);
    // What the completer does take up, later than them.
    await app.postTo('lease', marker);
    await until('the completer has been round', () => app.stage.runs(marker) > 1);
    expect([once, twice, plain].map((label) => app.stage.runs(label))).toEqual([1, 1, 1]);
    expect(problemCode(await app.postTo('once', once))).toBe('IDEMPOTENCY_OUTCOME_UNKNOWN');
    expect(problemCode(await app.postTo('twice', twice))).toBe('IDEMPOTENCY_OUTCOME_UNKNOWN');
  });
});
