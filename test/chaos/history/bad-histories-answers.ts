import { answerText, digestOf } from './answer.js';
import type { BadHistory } from './bad-history.js';
import { history, wellUsed } from './history-builder.js';

const FIRST = '{"id":1,"owner":"ann"}';
const OTHER = '{"id":2,"owner":"ann"}';
const BOBS = '{"id":1,"owner":"bob"}';
const LONG = `{"note":"${'x'.repeat(200)}"}`;
const LONG_OTHER = `{"note":"${'x'.repeat(199)}y"}`;
const DECLINED = { status: 'error', responseStatus: 402, responseBody: 'declined' } as const;

/** P3, P6 and P10: what was answered. */
export const BAD_ANSWERS: readonly BadHistory[] = [
  {
    finds: 'a replay with another body',
    promise: 'P3',
    message: `another body: call 2 got 200 (replayed) ${OTHER}, while call 1 got 201 ${FIRST}`,
    history: history().first(1).send(2).replay(2, 200, OTHER).swept(9).effect().record(),
  },
  {
    finds: 'a replay that differs behind the part of a long body that is shown',
    promise: 'P3',
    message: `another body: call 9 got 200 (replayed) ${digestOf(LONG_OTHER)}, while call 1 got 201 ${digestOf(LONG)}`,
    history: history()
      .send(1)
      .ok(1, 201, LONG)
      .swept(9, 200, LONG_OTHER)
      .effect()
      .record({ responseBody: LONG }),
  },
  {
    finds: 'a replay with the status of a first execution',
    promise: 'P3',
    message: `a status other than 200: call 2 got 201 (replayed) ${FIRST}, while call 1 got 201 ${FIRST}`,
    history: history().first(1).send(2).replay(2, 201).swept(9).effect().record(),
  },
  {
    finds: 'a replay with 200 where replays have the status of the first answer',
    promise: 'P3',
    message: `a status other than 201: call 9 got 200 (replayed) ${FIRST}, while call 1 got 201 ${FIRST}`,
    history: wellUsed(),
    options: { replayStatus: 'original' },
  },
  {
    finds: 'a replay with a status that no replay has, when the first answer was lost',
    promise: 'P3',
    message: `a status other than 200: calls 2 and 9 got 201 (replayed) ${FIRST}`,
    history: history().send(1).lost(1).send(2).replay(2, 201).swept(9, 201).effect().record(),
  },
  {
    finds: 'a replay of an error with another status',
    promise: 'P3',
    message: 'a status other than 402: call 2 got 400 (replayed) declined, while call 1 got 402 declined',
    history: history()
      .send(1)
      .ok(1, 402, 'declined')
      .send(2)
      .replay(2, 400, 'declined')
      .swept(9, 402, 'declined')
      .record(DECLINED),
  },
  {
    finds: 'a replay without a header of the first answer',
    promise: 'P3',
    message: `other headers (none for "location: /ledger/1"): call 9 got 200 (replayed) ${FIRST}, while call 1 got 201 ${FIRST}`,
    history: history()
      .send(1)
      .ok(1, 201, answerText({ location: '/ledger/1' }, FIRST))
      .swept(9, 200, answerText({}, FIRST))
      .effect()
      .record(),
  },
  {
    finds: 'two first executions of requests that came together',
    promise: 'P3',
    message: '2 answers without the marker of a replay: calls 1 and 2',
    history: history().send(1).send(2).ok(1).ok(2).swept(9).effect().record(),
  },
  {
    finds: 'a run after the outcome had been answered',
    promise: 'P3',
    message: `call 2 got 201 ${FIRST} as a first execution, sent after the outcome had been answered`,
    history: history().first(1).first(2).swept(9).effect().record(),
  },
  {
    finds: 'a replay that lacks its marker, when only replays had been answered',
    promise: 'P3',
    message: `call 3 got 201 ${FIRST} as a first execution, sent after the outcome had been answered`,
    history: history().send(1).lost(1).send(2).replay(2).first(3).swept(9).effect().record(),
  },
  {
    finds: 'replays that differ from each other, when the first answer was lost',
    promise: 'P3',
    message: `another body: call 3 got 200 (replayed) ${OTHER}, while calls 2 and 9 got 200 (replayed) ${FIRST}`,
    history: history()
      .send(1)
      .lost(1)
      .send(2)
      .replay(2)
      .send(3)
      .replay(3, 200, OTHER)
      .swept(9)
      .effect()
      .record(),
  },
  {
    finds: "an answer with another scope's data",
    promise: 'P6',
    message: `data of "bob" came to "ann": call 1 got 201 ${BOBS}`,
    history: history().send(1, { isSweep: true }).ok(1, 201, BOBS).effect().record({ responseBody: BOBS }),
  },
  {
    finds: "an answer with another scope's data among its own",
    promise: 'P6',
    message: `data of "bob" came to "ann": call 1 got 201 [${FIRST},${BOBS}]`,
    history: history()
      .send(1, { isSweep: true })
      .ok(1, 201, `[${FIRST},${BOBS}]`)
      .effect()
      .record({ responseBody: `[${FIRST},${BOBS}]` }),
  },
  {
    finds: "a refusal that tells another scope's data",
    promise: 'P6',
    message: 'data of "bob" came to "ann": call 2 got 409 IDEMPOTENCY_KEY_IN_USE',
    history: history()
      .send(1)
      .send(2)
      .refused(2, 409, 'IDEMPOTENCY_KEY_IN_USE', BOBS)
      .ok(1)
      .swept(9)
      .effect()
      .record(),
  },
  {
    finds: "a record with another scope's data that nobody has got yet",
    promise: 'P6',
    message: `data of "bob" came to "ann": the record holds ${BOBS}`,
    history: history()
      .send(1)
      .lost(1)
      .send(9, { isSweep: true })
      .refused(9, 500, 'IDEMPOTENCY_RESPONSE_NOT_STORED')
      .effect()
      .record({ responseBody: BOBS }),
  },
  {
    finds: "a bystander's answer with another scope's data",
    promise: 'P6',
    message: `data of "bob" came to "ann": call 20 got 200 ${BOBS}`,
    history: wellUsed().on({ operation: 'GET /bystander', mode: 'bystander' }).send(20).ok(20, 200, BOBS),
  },
  {
    finds: 'replays that are not what the record holds',
    promise: 'P10',
    message: `calls 2 and 9 got 200 (replayed) ${OTHER}, and the record is completed 201 ${FIRST}`,
    history: history().send(1).lost(1).send(2).replay(2, 200, OTHER).swept(9, 200, OTHER).effect().record(),
  },
  {
    finds: 'a replay with a body where the record has a status without one',
    promise: 'P10',
    message: 'call 9 got 200 (replayed) (no body), and the record is completed 204 (no body)',
    history: history()
      .send(1)
      .lost(1)
      .swept(9, 200, '')
      .effect()
      .record({ responseStatus: 204, responseBody: '' }),
  },
  {
    finds: 'a replay without a record',
    promise: 'P10',
    message: 'call 9 got 402 (replayed) declined, and there is no record',
    history: history().send(1).lost(1).swept(9, 402, 'declined'),
  },
  {
    finds: 'a replay of a record that was released',
    promise: 'P10',
    message: 'call 9 got 402 (replayed) declined, and the record is released',
    history: history().send(1).lost(1).swept(9, 402, 'declined').unanswered('error'),
  },
  {
    finds: 'a replay of a tombstone',
    promise: 'P10',
    message: `call 9 got 200 (replayed) ${FIRST}, and the record is completed 201 without its body`,
    history: history().send(1).lost(1).swept(9).effect().record({ responseBody: null }),
  },
  {
    finds: 'a first answer that is not what the record holds',
    promise: 'P10',
    message: `call 1 got 201 ${FIRST}, and the record is completed 201 ${OTHER}`,
    history: history().first(1, { isSweep: true }).effect().record({ responseBody: OTHER }),
  },
  {
    finds: 'a request that is told to wait after its outcome had been answered',
    promise: 'P10',
    message: 'call 2 got 409 IDEMPOTENCY_KEY_IN_USE, sent after the outcome had been answered',
    history: history().first(1).send(2).inUse(2).swept(9).effect().record(),
  },
  {
    finds: 'a request that is told to wait longer after its outcome than a hint stands',
    promise: 'P10',
    message: 'call 3 got 409 IDEMPOTENCY_KEY_IN_USE, sent after the outcome had been answered',
    history: history().first(1).send(2).inUse(2).at(1_000).send(3).inUse(3).swept(9).effect().record(),
    options: { inUseMs: 100 },
  },
  {
    finds: 'a request that is told to wait long after the last fault',
    promise: 'P10',
    message: 'call 2 got 409 IDEMPOTENCY_KEY_IN_USE, sent after the outcome had been answered',
    history: history()
      .first(1)
      .fault('crash', 30, 1_000)
      .at(6_100)
      .send(2)
      .inUse(2)
      .swept(9)
      .effect()
      .record(),
    options: { inUseFaults: ['crash'] },
  },
  {
    finds: 'a request that is taken for another one after its outcome had been answered',
    promise: 'P10',
    message: 'calls 2 and 3 got 422 IDEMPOTENCY_KEY_REUSED, sent after the outcome had been answered',
    history: history()
      .first(1)
      .send(2)
      .refused(2, 422, 'IDEMPOTENCY_KEY_REUSED')
      .send(3)
      .refused(3, 422, 'IDEMPOTENCY_KEY_REUSED')
      .swept(9)
      .effect()
      .record(),
  },
  {
    finds: 'an attempt that began, and was lost, after the outcome had been answered',
    promise: 'P10',
    message: 'call 2 got 503 IDEMPOTENCY_ATTEMPT_LOST, sent after the outcome had been answered',
    history: history()
      .first(1)
      .send(2)
      .refused(2, 503, 'IDEMPOTENCY_ATTEMPT_LOST')
      .swept(9)
      .effect()
      .record(),
  },
];
