import { randomBytes } from 'node:crypto';
import { BadGatewayException } from '@nestjs/common';
import {
  DecisionUnknownError,
  Idempotent,
  IdempotencyAdmin,
  IdempotencyEvents,
  type IdempotencyEvent,
  type IdempotentOptions,
  type RecordDetails,
  RecordInFlightError,
  RecordNotFoundError,
  type RecordReference,
  RecordStateError,
} from 'nestjs-pg-idempotency';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApp } from './support/app.js';
import {
  lease,
  openStage,
  outline,
  problemCode,
  type Scene,
  scripted,
  type StagedApp,
} from './support/stage.js';
import { startProxy } from './support/tcp-proxy.js';
import { deferred, until } from './support/until.js';

const undecided = (options: IdempotentOptions = {}): MethodDecorator =>
  lease({ onAbandoned: 'fail', ...options });

const ada = { actor: 'ada', reason: 'the provider’s books, ticket 7' };
const bob = { actor: 'bob', reason: 'the provider’s books, ticket 7' };

describe.each([
  { platform: 'express', pipeline: true, sealed: false },
  { platform: 'fastify', pipeline: false, sealed: true },
] as const)(
  'IdempotencyAdmin on $platform (pipeline: $pipeline, encryptionKeys: $sealed)',
  ({ platform, pipeline, sealed }) => {
    let app: StagedApp;
    let admin: IdempotencyAdmin;
    let events: IdempotencyEvent[];

    beforeAll(async () => {
      app = await openStage({
        platform,
        pipeline,
        controllers: [
          scripted('once', undecided()),
          scripted('bounded', undecided({ leaseTtl: 100, maxRuntime: 200 })),
          scripted('brief', undecided({ leaseTtl: 400, maxRuntime: '10s' })),
          scripted('limited', undecided({ onAbandoned: 'retry', maxAttempts: 1 })),
          scripted('plain', Idempotent({ scope: false })),
          scripted('scoped', Idempotent({ scope: ({ headers }) => String(headers['x-user']) })),
        ],
        idempotency: sealed ? { encryptionKeys: [randomBytes(32)] } : {},
      });
      admin = app.app.get(IdempotencyAdmin);
      events = [];
      app.app.get(IdempotencyEvents).events.subscribe((event) => events.push(event));
    });
    afterAll(() => app.close());
    afterEach(() => app.quiet());

    const trail = (keyHash: Buffer): Promise<unknown[]> =>
      app.rows(
        'SELECT action, attempt, status, actor, reason FROM idempotency_audit WHERE key_hash = $1 ORDER BY id',
        [keyHash],
      );
    const steps = (keyHash: Buffer): Promise<unknown[]> =>
      app.rows('SELECT name, attempt FROM idempotency_steps WHERE key_hash = $1 ORDER BY position', [
        keyHash,
      ]);
    const hash = async (label: string): Promise<Buffer> => (await app.record(label)).key_hash;
    const inspected = async (reference: RecordReference): Promise<RecordDetails> => {
      const details = await admin.inspect(reference);
      if (!details) throw new Error('no record');
      return details;
    };
    const resolved = (keyHash: Buffer): unknown[] =>
      events.filter((event) => event.type === 'resolved' && event.keyHash === keyHash.toString('hex'));

    /** A charge that was made, with an error after it: nobody runs it again by itself. */
    const charged = async (keys: string[] = []): Promise<string> => {
      const label = app.play(async ({ attempt, run, write }: Scene) => {
        await attempt.step('charge', async () => {
          keys.push(attempt.downstreamKey('charge'));
          await write(`charge of run ${run}`);
          return { charge: run };
        });
        if (run === 1) throw new BadGatewayException();
        return { run };
      });
      expect((await app.postTo('once', label)).status).toBe(502);
      return label;
    };

    /** The outcome of every one of them. */
    const retries = async (label: string, count: number): Promise<unknown[]> => {
      const answers = await Promise.all(Array.from({ length: count }, () => app.postTo('once', label)));
      return [...new Set(answers.map((answer) => `${answer.status} ${String(problemCode(answer))}`))];
    };

    it('tells the downstream key that the other system was given', async () => {
      const keys: string[] = [];
      const label = await charged(keys);
      expect(keys).toEqual([await admin.downstreamKey({ key: label }, 'charge')]);
      await expect(admin.downstreamKey({ key: 'none' }, 'charge')).rejects.toThrow(RecordNotFoundError);
    });

    describe('complete', () => {
      it('gives the answer to every retry of a charge that nobody ran again', async () => {
        const label = await charged();
        const unknown = await retries(label, 30);
        const keyHash = await hash(label);
        await admin.complete(
          { keyHash: keyHash.toString('hex') },
          { status: 201, body: { charge: 'ch_1' }, headers: { Location: '/charges/ch_1', 'X-By': 'ada' } },
          ada,
        );
        const retry = await app.postTo('once', label);
        const another = await app.postTo('once', label);
        expect(await app.notes(label)).toEqual(['charge of run 1']);
        expect(await app.record(label)).toMatchObject({
          status: 'completed',
          attempt: 2,
          response_status: 201,
          lease_until: null,
          request: null,
        });
        expect(await trail(keyHash)).toEqual([
          { action: 'complete', attempt: 1, status: 'abandoned', ...ada },
        ]);
        expect(unknown).toEqual(['503 IDEMPOTENCY_OUTCOME_UNKNOWN']);
        expect(outline(retry)).toEqual({ status: 200, text: '{"charge":"ch_1"}' });
        expect(retry.headers).toMatchObject({
          'idempotent-replayed': 'true',
          'content-type': 'application/json; charset=utf-8',
          location: '/charges/ch_1',
          'x-by': 'ada',
        });
        expect(outline(another)).toEqual(outline(retry));
        expect(resolved(keyHash)).toEqual([
          {
            type: 'resolved',
            action: 'complete',
            actor: 'ada',
            keyHash: keyHash.toString('hex'),
            operation: 'POST /once/:label',
          },
        ]);
      });

      it.each<[string, unknown, string | undefined, string]>([
        ['a text', 'no "JSON"', 'text/plain; charset=utf-8', 'no "JSON"'],
        ['bytes', Buffer.from('%PDF'), 'application/octet-stream', '%PDF'],
        ['null', null, 'application/json; charset=utf-8', 'null'],
        ['nothing', undefined, undefined, ''],
      ])('replays %s as it is, with an error status of its own', async (_, body, contentType, text) => {
        const label = await charged();
        await admin.complete({ key: label }, { status: 422, body }, ada);
        const retry = await app.postTo('once', label);
        expect(await app.record(label)).toMatchObject({ status: 'completed', response_status: 422 });
        expect(outline(retry)).toEqual({ status: 422, text });
        expect(retry.headers['content-type']).toBe(contentType);
      });

      it('ends a released record, so that no retry runs it', async () => {
        const label = app.play(() => {
          throw new BadGatewayException();
        });
        await app.postTo('plain', label);
        await admin.complete({ key: label }, { status: 410, body: 'gone' }, ada);
        const retry = await app.postTo('plain', label);
        expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 2 });
        expect(await trail(await hash(label))).toMatchObject([{ attempt: 1, status: 'released' }]);
        expect(outline(retry)).toEqual({ status: 410, text: 'gone' });
        expect(app.stage.runs(label)).toBe(1);
      });

      it('gives a record whose time was over the time again that it had', async () => {
        const label = await charged();
        await app.rows(
          `UPDATE idempotency_keys SET created_at = created_at - interval '9 days', expires_at = expires_at - interval '9 days'
            WHERE key = $1`,
          [label],
        );
        await admin.complete({ key: label }, { status: 200, body: 'late' }, ada);
        const [left] = await app.rows(
          `SELECT expires_at - clock_timestamp() > interval '23 hours 59 minutes' AS whole FROM idempotency_keys WHERE key = $1`,
          [label],
        );
        expect(left).toEqual({ whole: true });
        expect((await app.postTo('once', label)).text).toBe('late');
      });

      it('of two decisions at once stores one, ten times', async () => {
        for (let round = 0; round < 10; round++) {
          const label = await charged();
          const results = await Promise.allSettled([
            admin.complete({ key: label }, { status: 200, body: 'ada' }, ada),
            admin.complete({ key: label }, { status: 200, body: 'bob' }, bob),
          ]);
          const lost = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
          const [winner] = (await trail(await hash(label))) as { actor: string }[];
          expect(await trail(await hash(label))).toHaveLength(1);
          expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 2 });
          expect(lost).toHaveLength(1);
          expect(lost[0] instanceof RecordInFlightError || lost[0] instanceof RecordStateError).toBe(true);
          expect((await app.postTo('once', label)).text).toBe(winner?.actor);
        }
      });

      it('of a release and a retry at once lets nothing run twice', async () => {
        const label = await charged();
        const answers = await Promise.all([
          admin.release({ key: label }, ada),
          ...Array.from({ length: 20 }, () => app.postTo('once', label)),
        ]);
        const last = await app.postTo('once', label);
        expect(await app.notes(label)).toEqual(['charge of run 1']);
        expect(app.stage.runs(label)).toBe(2);
        expect(answers.filter((answer) => answer?.status === 201).length).toBeLessThanOrEqual(1);
        expect(last.text).toBe('{"run":2}');
      });

      it.each<[string, { status: number; headers?: Record<string, string>; body?: unknown }]>([
        ['a status that is none', { status: 199 }],
        ['a cookie', { status: 200, headers: { 'Set-Cookie': 'a=b' } }],
        ['a length', { status: 200, headers: { 'content-length': '1' } }],
        ['a header that breaks the line', { status: 200, headers: { 'x-a': 'b\r\nx-c: d' } }],
        ['a body that JSON cannot express', { status: 200, body: 1n }],
        ['a function', { status: 200, body: () => 1 }],
        ['a body where there is none', { status: 204, body: 'x' }],
      ])('refuses %s', async (_, answer) => {
        const label = await charged();
        await expect(admin.complete({ key: label }, answer, ada)).rejects.toThrow(/./);
        expect(await app.record(label)).toMatchObject({ status: 'pending', attempt: 1 });
        expect(await trail(await hash(label))).toEqual([]);
      });
    });

    describe('release', () => {
      it('lets the next retry go on from the journal, with the same downstream keys', async () => {
        const keys: string[] = [];
        const label = await charged(keys);
        const before = await app.record(label);
        await admin.release({ key: label }, ada);
        const decided = await app.record(label);
        const retry = await app.postTo('once', label);
        expect(await app.notes(label)).toEqual(['charge of run 1']);
        expect(keys).toHaveLength(1);
        expect(await steps(decided.key_hash)).toEqual([{ name: 'charge', attempt: 1 }]);
        expect(decided).toMatchObject({ status: 'error', attempt: 2, created_at: before['created_at'] });
        expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 3 });
        expect(outline(retry)).toEqual({ status: 201, text: '{"run":2}' });
      });

      it('keeps the journal of a record whose time was over', async () => {
        const label = await charged();
        await app.rows(
          `UPDATE idempotency_keys SET created_at = created_at - interval '9 days', expires_at = expires_at - interval '9 days'
            WHERE key = $1`,
          [label],
        );
        await admin.release({ key: label }, ada);
        await app.postTo('once', label);
        expect(await app.notes(label)).toEqual(['charge of run 1']);
      });

      it('begins anew where the journal is discarded: everything is done again, under other keys', async () => {
        const keys: string[] = [];
        const label = await charged(keys);
        await admin.release({ key: label }, { ...ada, journal: 'discard' });
        const retry = await app.postTo('once', label);
        expect(await app.notes(label)).toEqual(['charge of run 1', 'charge of run 2']);
        expect(await steps(await hash(label))).toEqual([{ name: 'charge', attempt: 3 }]);
        expect(new Set(keys).size).toBe(2);
        expect(retry.status).toBe(201);
      });

      it('frees a record whose attempts are exhausted', async () => {
        const label = app.play(async ({ attempt, run }: Scene) => {
          await attempt.step('charge', () => 1);
          if (run === 1) throw new BadGatewayException();
          return run;
        });
        await app.postTo('limited', label);
        await app.rows('UPDATE idempotency_keys SET abandoned = 5 WHERE key = $1', [label]);
        const exhausted = await app.postTo('limited', label);
        await admin.release({ key: label }, ada);
        const retry = await app.postTo('limited', label);
        expect(await app.record(label)).toMatchObject({ status: 'completed', abandoned: 0 });
        expect(problemCode(exhausted)).toBe('IDEMPOTENCY_OUTCOME_UNKNOWN');
        expect(outline(retry)).toEqual({ status: 201, text: '2' });
      });

      it('frees a record that transaction mode abandoned', async () => {
        const label = app.play(() => 'done');
        await app.postTo('plain', label);
        await app.rows(
          `UPDATE idempotency_keys SET status = 'pending', response_status = NULL, response_headers = NULL,
                  response_body = NULL, completed_at = NULL, abandoned = 9 WHERE key = $1`,
          [label],
        );
        await admin.release({ key: label }, ada);
        const retry = await app.postTo('plain', label);
        expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 3, abandoned: 0 });
        expect(outline(retry)).toEqual({ status: 201, text: 'done' });
      });
    });

    describe('an attempt that turns out to be alive', () => {
      /** An attempt whose maxRuntime and lease are over, in its step or after it. */
      const frozen = async (
        journaled: boolean,
      ): Promise<{ label: string; thaw: () => void; ended: Promise<unknown> }> => {
        const gate = deferred();
        const ended = deferred<unknown>();
        const label = app.play(async ({ attempt, run, write }: Scene) => {
          if (run > 1) return `run ${run}`;
          try {
            if (journaled) await attempt.step('before', () => 1);
            await attempt.step('frozen', async () => {
              await gate.promise;
              await write('zombie');
            });
            ended.resolve('no error');
          } catch (error) {
            ended.resolve(error);
            throw error;
          }
          return 'zombie';
        });
        const answer = await app.postTo('bounded', label);
        expect(problemCode(answer)).toBe('IDEMPOTENCY_OUTCOME_UNKNOWN');
        await until('its lease is over', async () => (await inspected({ key: label })).state === 'abandoned');
        return { label, thaw: () => gate.resolve(), ended: ended.promise };
      };

      /** A renewal that was under way when maxRuntime was over may have come late, and holds for one more lease. */
      const decide = (decision: () => Promise<void>): Promise<unknown> =>
        until('the record is not in flight', () =>
          decision().then(
            () => true,
            (error: unknown) => {
              if (error instanceof RecordInFlightError) return false;
              throw error;
            },
          ),
        );

      it.each([true, false])(
        'changes nothing about a completion (journaled before: %s)',
        async (journaled) => {
          const { label, thaw, ended } = await frozen(journaled);
          await decide(() => admin.complete({ key: label }, { status: 200, body: 'decided' }, ada));
          const decided = await app.record(label);
          thaw();
          expect(await ended).toMatchObject({ name: 'LeaseLostError' });
          await app.quiet();
          expect(await app.record(label)).toEqual(decided);
          expect(await steps(decided.key_hash)).toEqual(journaled ? [{ name: 'before', attempt: 1 }] : []);
          expect(outline(await app.postTo('bounded', label))).toEqual({ status: 200, text: 'decided' });
        },
      );

      it.each(['keep', 'discard'] as const)(
        'changes nothing about a release (journal: %s)',
        async (journal) => {
          const { label, thaw, ended } = await frozen(false);
          await decide(() => admin.release({ key: label }, { ...ada, journal }));
          const decided = await app.record(label);
          thaw();
          expect(await ended).toMatchObject({ name: 'LeaseLostError' });
          await app.quiet();
          expect(await app.record(label)).toEqual(decided);
          expect(await steps(decided.key_hash)).toEqual([]);
          expect(outline(await app.postTo('bounded', label))).toEqual({ status: 201, text: 'run 2' });
        },
      );
    });

    describe('a record in flight', () => {
      it.each(['once', 'plain'])('is refused without waiting, and goes on (%s)', async (route) => {
        const gate = deferred();
        const label = app.play(async ({ write }: Scene) => {
          await write();
          await gate.promise;
          return 'done';
        });
        const answer = app.postTo(route, label);
        await until('the handler runs', () => app.stage.runs(label) === 1);
        const reference = { key: label };
        const refusals = await Promise.allSettled([
          admin.complete(reference, { status: 200 }, ada),
          admin.release(reference, ada),
          admin.erase(reference, ada),
        ]);
        const { state } = await inspected(reference);
        const listed = (await admin.list({ state: 'in-flight' })).records.map(({ key }) => key);
        gate.resolve();
        expect(refusals.map((refusal) => refusal.status === 'rejected' && refusal.reason.name)).toEqual(
          Array.from({ length: 3 }, () => RecordInFlightError.name),
        );
        expect([state, listed]).toEqual(['in-flight', [label]]);
        expect(outline(await answer)).toEqual({ status: 201, text: 'done' });
        expect(await app.effects(label)).toBe(1);
        expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 1 });
        expect(await trail(await hash(label))).toEqual([]);
      });

      it('is refused while a phase holds it, although its lease is over', async () => {
        let isOver = false;
        const label = app.play(async ({ attempt }: Scene) => {
          // Busy all the time: a phase that rests for longer than its lease is ended by the server.
          await attempt.phase('hold', () =>
            until('the test has looked', async () => {
              await attempt.manager.query('SELECT 1');
              return isOver;
            }),
          );
          return 'done';
        });
        const answer = app.postTo('brief', label);
        await until('the lease is over while the phase runs', async () => {
          const [row] = await app.rows(
            `SELECT FROM idempotency_keys JOIN pg_locks ON transactionid = idempotency_keys.xmax AND granted
              WHERE key = $1 AND lease_until < clock_timestamp()`,
            [label],
          );
          return row;
        });
        const refusals = await Promise.allSettled([
          admin.complete({ key: label }, { status: 200 }, ada),
          admin.release({ key: label }, ada),
        ]);
        const { state } = await inspected({ key: label });
        isOver = true;
        expect(refusals.map((refusal) => refusal.status === 'rejected' && refusal.reason.name)).toEqual([
          RecordInFlightError.name,
          RecordInFlightError.name,
        ]);
        expect(state).toBe('in-flight');
        expect(outline(await answer)).toEqual({ status: 201, text: 'done' });
      });
    });

    describe('erase', () => {
      it('leaves a tombstone that keeps the effect from happening again', async () => {
        const label = app.play(async ({ write, attempt }: Scene) => {
          await attempt.step('charge', () => write());
          return { email: 'client@example.org' };
        });
        await app.postTo('once', label);
        const before = await app.record(label);
        await admin.erase({ key: label }, ada);
        const retry = await app.postTo('once', label);
        const [after] = await app.rows('SELECT * FROM idempotency_keys WHERE key_hash = $1', [
          before.key_hash,
        ]);
        expect(await app.effects(label)).toBe(1);
        expect(await steps(before.key_hash)).toEqual([]);
        expect(after).toEqual({
          ...before,
          scope: '',
          key: 'erased',
          format: 1,
          response_headers: null,
          response_body: null,
          last_error: null,
          request: null,
        });
        expect(await trail(before.key_hash)).toEqual([
          { action: 'erase', attempt: 1, status: 'completed', ...ada },
        ]);
        expect(problemCode(retry)).toBe('IDEMPOTENCY_RESPONSE_NOT_STORED');
        expect((await inspected({ key: label })).response).toEqual({
          kind: 'readable',
          status: 201,
          headers: {},
          body: null,
        });
      });

      it('refuses a record whose outcome is unknown', async () => {
        const label = await charged();
        const before = await app.record(label);
        await expect(admin.erase({ key: label }, ada)).rejects.toThrow(
          /is abandoned\. .* complete or release/,
        );
        expect(await app.record(label)).toEqual(before);
        expect(await trail(before.key_hash)).toEqual([]);
      });

      it('deletes a released record under which nothing was done', async () => {
        const label = app.play(() => {
          throw new BadGatewayException();
        });
        await app.postTo('plain', label);
        const keyHash = await hash(label);
        await admin.erase({ key: label }, ada);
        expect(await app.records(label)).toEqual([]);
        expect(await trail(keyHash)).toMatchObject([{ action: 'erase', status: 'released' }]);
        expect(await admin.inspect({ key: label })).toBeUndefined();
      });

      it('refuses a released record of which something is done', async () => {
        const label = await charged();
        await admin.release({ key: label }, ada);
        const before = await app.record(label);
        await expect(admin.erase({ key: label }, ada)).rejects.toThrow(/journaled: complete it first/);
        expect(await app.record(label)).toEqual(before);
        expect(await trail(before.key_hash)).toMatchObject([{ action: 'release' }]);
      });
    });

    describe('refusals', () => {
      it('names what is not there', async () => {
        await expect(admin.release({ key: 'nobody' }, ada)).rejects.toThrow(RecordNotFoundError);
        await expect(admin.complete({ keyHash: '0'.repeat(64) }, { status: 200 }, ada)).rejects.toThrow(
          RecordNotFoundError,
        );
        expect(await admin.inspect({ key: 'nobody' })).toBeUndefined();
      });

      it('says what is final, and what is released already', async () => {
        const label = await charged();
        await admin.release({ key: label }, ada);
        await expect(admin.release({ key: label }, ada)).rejects.toThrow(/is released\. A retry runs it/);
        await admin.complete({ key: label }, { status: 200 }, ada);
        await expect(admin.complete({ key: label }, { status: 201 }, ada)).rejects.toThrow(RecordStateError);
        await expect(admin.release({ key: label }, ada)).rejects.toThrow(
          /is completed\. .* it can be erased/,
        );
        expect(await app.record(label)).toMatchObject({ response_status: 200, attempt: 3 });
      });

      it('decides nothing about a record of a newer version', async () => {
        const label = await charged();
        await app.rows('UPDATE idempotency_keys SET format = 9 WHERE key = $1', [label]);
        await expect(admin.release({ key: label }, ada)).rejects.toThrow(/newer version/);
        expect(await app.record(label)).toMatchObject({ status: 'pending', attempt: 1 });
      });

      it.each([
        { actor: '', reason: 'r' },
        { actor: 'a', reason: ' ' },
        { actor: 'a\0', reason: 'r' },
      ])('wants to know who decides, and why: %j', async (by) => {
        const label = await charged();
        await expect(admin.release({ key: label }, by)).rejects.toThrow(TypeError);
        expect(await app.record(label)).toMatchObject({ status: 'pending' });
      });

      it('refuses references and filters that are none', async () => {
        await expect(admin.inspect({ keyHash: 'abc' })).rejects.toThrow(TypeError);
        await expect(admin.inspect({ key: '' })).rejects.toThrow(TypeError);
        await expect(admin.list({ limit: 0 })).rejects.toThrow(RangeError);
        await expect(admin.list({ limit: 1001 })).rejects.toThrow(RangeError);
        await expect(admin.list({ after: 'x' })).rejects.toThrow(TypeError);
        await expect(admin.list({ state: 'pending' as 'error' })).rejects.toThrow(TypeError);
      });
    });

    describe('inspect', () => {
      it('opens journal, answer and trail', async () => {
        const label = app.play(async ({ attempt, run }: Scene) => {
          await attempt.phase('reserve', () => ({ order: 7 }));
          await attempt.step('label', () => Buffer.from('%PDF'));
          await attempt.step('mail', () => undefined);
          if (run === 1) throw new BadGatewayException('later');
          return { ok: true };
        });
        await app.postTo('once', label);
        const unknown = await inspected({ key: label });
        await admin.release({ key: label }, ada);
        await app.postTo('once', label);
        const final = await inspected({ keyHash: unknown.keyHash.toUpperCase() });
        expect(unknown).toMatchObject({
          key: label,
          scope: '',
          namespace: 'default',
          operation: 'POST /once/:label',
          state: 'abandoned',
          attempt: 1,
          response: undefined,
          lastError: expect.stringContaining('later'),
          decisions: [],
        });
        expect(unknown.journal).toMatchObject([
          {
            name: 'reserve',
            kind: 'phase',
            position: 1,
            attempt: 1,
            result: { kind: 'json', value: { order: 7 } },
          },
          { name: 'label', kind: 'step', position: 2, result: { kind: 'bytes', bytes: Buffer.from('%PDF') } },
          { name: 'mail', kind: 'step', position: 3, raised: false, result: { kind: 'nothing' } },
        ]);
        expect(final).toMatchObject({
          state: 'completed',
          attempt: 3,
          responseStatus: 201,
          response: { kind: 'readable', status: 201, body: Buffer.from('{"ok":true}') },
          decisions: [{ action: 'release', attempt: 1, state: 'abandoned', ...ada }],
        });
        expect(final.decisions[0]?.decidedAt).toBeInstanceOf(Date);
      });

      it('says of what is stored that it cannot be opened', async () => {
        const label = app.play(async ({ attempt }: Scene) => {
          await attempt.step('charge', () => 1);
          return 'done';
        });
        await app.postTo('once', label);
        await app.rows('UPDATE idempotency_keys SET format = 9 WHERE key = $1', [label]);
        await app.rows(`UPDATE idempotency_steps SET body = '\\x09' WHERE key_hash = $1`, [
          await hash(label),
        ]);
        expect(await inspected({ key: label })).toMatchObject({
          response: { kind: 'unreadable', status: 201 },
          journal: [{ result: { kind: 'unreadable' } }],
        });
      });
    });

    describe('list', () => {
      it('filters by state, scope and operation, page by page', async () => {
        const label = app.play(({ run, reply }: Scene) => {
          if (run === 3) throw new BadGatewayException();
          if (run === 4) void reply.status(409);
          return run;
        });
        for (const user of ['a', 'b', 'c', 'd', 'e']) await app.postTo('scoped', label, { 'x-user': user });
        const operation = 'POST /scoped/:label';
        const states = async (state: 'completed' | 'released' | 'abandoned'): Promise<string[]> =>
          (await admin.list({ operation, state })).records.map(({ scope }) => scope);
        const pages: string[][] = [];
        let after: string | undefined;
        do {
          const page = await admin.list({ operation, limit: 2, ...(after === undefined ? {} : { after }) });
          pages.push(page.records.map(({ scope }) => scope));
          after = page.next;
        } while (after !== undefined);
        expect(await states('completed')).toEqual(['a', 'b', 'd', 'e']);
        expect(await states('released')).toEqual(['c']);
        expect(await states('abandoned')).toEqual([]);
        expect(pages).toEqual([['a', 'b'], ['c', 'd'], ['e']]);
        expect((await admin.list({ scope: 'b' })).records).toMatchObject([
          { key: label, state: 'completed' },
        ]);
        expect((await admin.list({ namespace: 'other' })).records).toEqual([]);
        const all = await admin.list({ operation: 'POST /once/:label', state: 'abandoned', limit: 1000 });
        expect(all.records.length).toBeGreaterThan(0);
        expect(new Set(all.records.map(({ state }) => state))).toEqual(new Set(['abandoned']));
      });
    });

    it('reports a decision whose COMMIT got no answer, and decides nothing twice', async () => {
      const url = new URL(app.databaseUrl);
      const proxy = await startProxy({ host: url.hostname, port: Number(url.port) });
      url.port = String(proxy.port);
      const other = await startApp({ databaseUrl: url.href, pipeline });
      try {
        const label = await charged();
        const met = proxy.faultNextCommit('swallow-answer');
        const decision = other.app.get(IdempotencyAdmin).release({ key: label }, ada);
        await expect(decision).rejects.toThrow(DecisionUnknownError);
        await met;
        await expect(admin.release({ key: label }, bob)).rejects.toThrow(RecordStateError);
        expect(await trail(await hash(label))).toMatchObject([{ action: 'release', actor: 'ada' }]);
      } finally {
        await other.close();
        await proxy.close();
      }
    });
  },
);
