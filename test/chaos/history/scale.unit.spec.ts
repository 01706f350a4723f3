import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { answerText, partsOf } from './answer.js';
import { checkHistory } from './checker.js';
import type { HistoryEvent } from './event.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Requests of the shorter history; the longer one has four times as many. 100000 are for a machine with nothing else to do. */
const REQUESTS = Number(process.env['HISTORY_REQUESTS'] ?? 10_000);

const HEADERS = { 'content-type': 'application/json; charset=utf-8' };

interface Shape {
  readonly requests: number;
  readonly requestsPerKey: number;
  readonly bodyCharacters?: number;
}

/** A run in which every key is used so often: executed once, then replayed, swept last. Every text is made anew, as when it is read. */
function* run({ requests, requestsPerKey, bodyCharacters = 20 }: Shape): Generator<HistoryEvent> {
  const padding = 'x'.repeat(bodyCharacters);
  for (let call = 0; call < requests; call++) {
    const index = Math.floor(call / requestsPerKey);
    const turn = call % requestsPerKey;
    const subject = {
      scope: `user-${index % 97}`,
      operation: 'POST /ledger/transaction',
      key: `key-${index}`,
    };
    const body = answerText(HEADERS, JSON.stringify({ id: index, padding, owner: subject.scope }));
    const isSweep = turn === requestsPerKey - 1;
    yield {
      kind: 'invoke',
      call,
      atMs: call,
      ...subject,
      mode: 'transaction',
      payload: subject.key,
      isSweep,
    };
    const status = turn === 0 ? 201 : 200;
    yield { kind: 'ok', call, atMs: call, status, replayed: turn > 0, body };
    if (isSweep) {
      yield { kind: 'effect', ...subject, payload: subject.key, attempt: 1 };
      yield {
        kind: 'record',
        ...subject,
        status: 'completed',
        responseStatus: 201,
        responseBody: partsOf(body).body,
      };
    }
  }
}

/** Processor time of a check, in milliseconds. */
async function cpuMsOf(shape: Shape): Promise<number> {
  const before = process.cpuUsage();
  const { total, checked } = await checkHistory(run(shape));
  const { user, system } = process.cpuUsage(before);
  expect({ total, requests: checked.requests }).toEqual({ total: 0, requests: shape.requests });
  return (user + system) / 1_000;
}

/** What the checker holds when it has seen all of a run, in bytes. */
async function heldAfter(shape: Shape): Promise<number> {
  let held = 0;
  function* measured(): Generator<HistoryEvent> {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    yield* run(shape);
    collectGarbage();
    held = process.memoryUsage().heapUsed - before;
  }
  const { total } = await checkHistory(measured());
  expect(total).toBe(0);
  return held;
}

/** The least of three: what the runtime itself keeps meanwhile was seen to be half a megabyte, either way. */
async function leastHeldAfter(shape: Shape): Promise<number> {
  return Math.min(await heldAfter(shape), await heldAfter(shape), await heldAfter(shape));
}

describe('checking a long history', () => {
  it.each([
    ['of many keys', 4],
    ['of one key', Infinity],
  ])(
    '%s takes four times as long for four times the requests',
    async (_, requestsPerKey) => {
      const shape = (requests: number): Shape => ({
        requests,
        requestsPerKey: Math.min(requestsPerKey, requests),
      });
      await cpuMsOf(shape(REQUESTS));
      const short = Math.min(await cpuMsOf(shape(REQUESTS)), await cpuMsOf(shape(REQUESTS)));
      const long = await cpuMsOf(shape(4 * REQUESTS));

      // A quadratic one takes sixteen times as long.
      expect(long / short).toBeLessThan(8);
    },
    60_000,
  );

  it('holds nothing for a request of a key that it knows', async () => {
    const requests = 200_000;
    const held = await leastHeldAfter({ requests, requestsPerKey: requests });

    // 5 bytes each, where an answer alone has more than a hundred and a number in an array has eight.
    expect(held / requests).toBeLessThan(5);
  }, 60_000);

  it('holds under 1.3 kB for a key, however large its answers are', async () => {
    const keys = 5_000;
    const short = await leastHeldAfter({ requests: 2 * keys, requestsPerKey: 2 });
    const long = await leastHeldAfter({ requests: 2 * keys, requestsPerKey: 2, bodyCharacters: 5_000 });

    expect(short / keys).toBeLessThan(1_300);
    expect(long / keys).toBeLessThan(1_300);
  }, 60_000);
});
