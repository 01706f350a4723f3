import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cost, count, type Counted } from '../bench/counters/count.js';
import { type Services, startServices } from '../bench/services/servers.js';

/**
 * What protection costs, in figures that are the same on every machine. They are limits: more is a step back, and fewer is a reason to
 * lower them here and in docs/performance.md.
 */
describe('what protection costs beside the same handler in a plain transaction', () => {
  let services: Services;
  /**
   * A server of its own: on one that is shared, others write and flush the WAL too. Without autovacuum, which comes after a minute
   * and writes more than all requests counted here.
   */
  beforeAll(async () => {
    services = await startServices({ redis: false, settings: { autovacuum: 'off' } });
  });
  afterAll(() => services.stop());

  const cost = (
    what: Counted,
    options: { platform: 'express' | 'fastify'; pipeline: boolean },
  ): Promise<Cost> => count(what, { databaseUrl: services.databaseUrl, ...options });

  for (const { platform, pipeline } of [
    { platform: 'express', pipeline: true },
    { platform: 'fastify', pipeline: false },
  ] as const) {
    describe(`on ${platform}, ${pipeline ? 'with' : 'without'} pipeline`, () => {
      it('adds no round trip and no flush of the log to a first execution, six statements and a kilobyte of log', async () => {
        const plain = await cost('plain', { platform, pipeline });
        const first = await cost('first execution', { platform, pipeline });
        expect(plain).toMatchObject({ roundTrips: 4, statements: 4 });
        expect(first).toMatchObject({ roundTrips: 4, statements: 10 });
        // One for each request, beside those of the start.
        for (const { synchronousFlushes } of [plain, first]) {
          expect(synchronousFlushes).toBeGreaterThanOrEqual(1);
          expect(synchronousFlushes).toBeLessThan(1.1);
        }
        expect(first.walBytes - plain.walBytes).toBeLessThan(1_024);
        expect(first.allocatedBytes - plain.allocatedBytes).toBeLessThan(96 * 1_024);
      });

      it.each([
        { what: 'replay', statements: 1 },
        { what: 'first replay', statements: 6 },
      ] as const)('waits for one round trip and no flush at a $what', async ({ what, statements }) => {
        const replay = await cost(what, { platform, pipeline });
        // What PostgreSQL writes by itself now and then.
        expect(replay.walBytes).toBeLessThan(10);
        expect(replay.synchronousFlushes).toBeLessThan(0.1);
        expect(replay).toMatchObject({ roundTrips: 1, statements });
      });
    });
  }

  it.each(['cached replay', 'duplicate in flight'] as const)(
    'asks PostgreSQL nothing for a %s',
    async (what) => {
      const asked = await cost(what, { platform: 'express', pipeline: true });
      expect(asked.walBytes).toBeLessThan(10);
      expect(asked.synchronousFlushes).toBeLessThan(0.1);
      expect(asked).toMatchObject({ roundTrips: 0, statements: 0 });
    },
  );
});
