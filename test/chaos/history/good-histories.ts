import { answerText } from './answer.js';
import {
  history,
  type HistoryBuilder,
  lease,
  numbers,
  pacedBystanders,
  wellUsed,
} from './history-builder.js';
import type { CheckOptions } from './options.js';

/** A history that looks suspicious, and in which every promise is kept. */
export interface GoodHistory {
  /** What is in it, behind "accepts". */
  readonly accepts: string;
  readonly history: HistoryBuilder;
  readonly options?: Partial<CheckOptions>;
}

const DECLINED = { status: 'error', responseStatus: 402, responseBody: 'declined' } as const;
const LONG = `{"note":"${'x'.repeat(5_000)}","owner":"ann"}`;

export const GOOD_HISTORIES: readonly GoodHistory[] = [
  { accepts: 'a key that was used once', history: wellUsed() },
  {
    accepts: 'an answer that was lost, and a replay of it',
    history: history().send(1).lost(1).send(2).replay(2).swept(9).effect().record(),
  },
  {
    accepts: '409 and 422 while the first request is in flight, and replays after it',
    history: history()
      .send(1)
      .send(2)
      .send(3, { payload: 'b' })
      .inUse(2)
      .refused(3, 422, 'IDEMPOTENCY_KEY_REUSED')
      .ok(1)
      .send(4)
      .replay(4)
      .swept(9)
      .effect()
      .record(),
  },
  {
    accepts: '409 that comes after the outcome, to a request that was sent before it',
    history: history().send(1).send(2).ok(1).inUse(2).swept(9).effect().record(),
  },
  {
    accepts: 'a request that failed and was run again',
    history: history().send(1).lost(1, '500').first(2).swept(9).effect({ attempt: 2 }).record(),
  },
  {
    accepts: 'attempts that were lost and rolled back before one committed',
    history: history()
      .send(1)
      .refused(1, 503, 'IDEMPOTENCY_ATTEMPT_LOST')
      .send(2)
      .refused(2, 503, 'IDEMPOTENCY_TRANSACTION_CONFLICT')
      .first(3)
      .swept(9)
      .effect({ attempt: 3 })
      .record(),
  },
  {
    accepts: 'an error that the handler decided on, and its replay',
    history: history().send(1).ok(1, 402, 'declined').swept(9, 402, 'declined').record(DECLINED),
  },
  {
    accepts: 'an error of lease mode behind a phase that stands',
    history: lease().send(1).ok(1, 402, 'declined').swept(9, 402, 'declined').effect().record(DECLINED),
  },
  {
    accepts: 'a takeover after a kill, which the sweep makes',
    history: history()
      .send(1)
      .fault('kill', 5, 1_000)
      .lost(1)
      .at(1_000)
      .first(9, { isSweep: true })
      .effect({ attempt: 2 })
      .record(),
  },
  {
    accepts: 'a key that is swept long after the faults, and again later',
    history: history()
      .first(1)
      .fault('kill', 5, 1_000)
      .at(100_000)
      .swept(9)
      .at(200_000)
      .swept(10)
      .effect()
      .record(),
  },
  {
    accepts: 'a first answer that arrives after a replay of it',
    history: history().send(1).send(2).replay(2).ok(1).swept(9).effect().record(),
  },
  {
    accepts: 'a lost first answer, and replays with the status of their record, 204',
    history: history()
      .send(1)
      .lost(1)
      .swept(9, 204, '')
      .effect()
      .record({ responseStatus: 204, responseBody: '' }),
  },
  {
    accepts: 'replays with the status of the first answer, where that was chosen',
    history: history().first(1).swept(9, 201).effect().record(),
    options: { replayStatus: 'original' },
  },
  {
    accepts: 'a large body with headers, of which the record holds the body',
    history: history()
      .send(1)
      .ok(1, 201, answerText({ location: '/1', 'content-type': 'application/json' }, LONG))
      .swept(9, 200, answerText({ 'content-type': 'application/json', location: '/1' }, LONG))
      .effect()
      .record({ responseBody: LONG }),
  },
  {
    accepts: 'a body with an empty line',
    history: history()
      .send(1)
      .ok(1, 201, 'a\n\nb')
      .swept(9, 200, 'a\n\nb')
      .effect()
      .record({ responseBody: 'a\n\nb' }),
  },
  {
    accepts: 'one key of two scopes, with other payloads and answers',
    history: wellUsed()
      .on({ scope: 'bob' })
      .send(2, { payload: 'b' })
      .ok(2)
      .send(10, { payload: 'b', isSweep: true })
      .replay(10)
      .effect({ payload: 'b' })
      .record(),
  },
  {
    accepts: 'a scope that has to be escaped in JSON',
    history: history().on({ scope: 'a"b\\c\u2028é' }).first(1).swept(9).effect().record(),
  },
  {
    accepts: 'two payloads that raced for one key',
    history: history()
      .send(1)
      .send(2, { payload: 'b' })
      .inUse(1)
      .ok(2)
      .send(3)
      .refused(3, 422, 'IDEMPOTENCY_KEY_REUSED')
      .send(9, { isSweep: true })
      .refused(9, 422, 'IDEMPOTENCY_KEY_REUSED')
      .send(10, { payload: 'b', isSweep: true })
      .replay(10)
      .effect({ payload: 'b' })
      .record(),
  },
  {
    accepts: 'requests that cannot be served although the outcome is known, as the database is down',
    history: history()
      .first(1)
      .send(2)
      .refused(2, 503, 'IDEMPOTENCY_STORE_UNAVAILABLE')
      .send(3, { payload: 'b' })
      .refused(3, 503, 'IDEMPOTENCY_SHUTTING_DOWN')
      .send(4)
      .refused(4, 503, 'IDEMPOTENCY_OUTCOME_UNKNOWN')
      .send(5, { payload: 'b' })
      .lost(5)
      .swept(9)
      .effect()
      .record(),
  },
  {
    accepts: 'a malformed key, which leaves no trace and is not swept',
    history: wellUsed().on({ key: '' }).send(2).refused(2, 400, 'IDEMPOTENCY_KEY_INVALID'),
  },
  {
    accepts: 'a tombstone',
    history: history()
      .first(1)
      .send(9, { isSweep: true })
      .refused(9, 500, 'IDEMPOTENCY_RESPONSE_NOT_STORED')
      .effect()
      .record({ responseBody: null }),
  },
  {
    accepts: 'a request that kills its process, and is given up',
    history: history()
      .send(1)
      .lost(1)
      .send(9, { isSweep: true })
      .refused(9, 500, 'IDEMPOTENCY_ATTEMPTS_EXHAUSTED')
      .unanswered('pending'),
  },
  {
    accepts: 'a key that is left to a person, on a route that chose it',
    history: lease()
      .charged(1, 9, { onAbandoned: 'fail' })
      .on({ key: 'k2' })
      .send(2)
      .lost(2)
      .send(10, { isSweep: true })
      .refused(10, 503, 'IDEMPOTENCY_OUTCOME_UNKNOWN')
      .effect()
      .unanswered('pending'),
  },
  {
    accepts: 'a key that is left to a person after maxAttempts attempts',
    history: lease().leftOpen(1, 9, [4, 5]),
  },
  {
    accepts: 'an attempt that goes on where another one stopped, with its downstream key',
    history: lease()
      .send(1)
      .providerCall(1)
      .lost(1)
      .send(2)
      .inUse(2)
      .send(3)
      .providerCall(2)
      .ok(3)
      .swept(9)
      .effect({ attempt: 2 })
      .record(),
  },
  {
    accepts: 'a call that its attempt repeats, on a route that is never run twice',
    history: lease()
      .send(1)
      .providerCall(1, { onAbandoned: 'fail' })
      .providerCall(1, { onAbandoned: 'fail' })
      .ok(1)
      .swept(9)
      .effect()
      .record(),
  },
  {
    accepts: 'a call of a frozen process that comes after one of its successor',
    history: lease()
      .send(1)
      .fault('freeze', 50, 10_000)
      .at(5_000)
      .send(2)
      .providerCall(2)
      .ok(2)
      .at(10_100)
      .providerCall(1)
      .replay(1)
      .swept(9)
      .effect({ attempt: 2 })
      .record(),
    options: { holdUpFaults: ['freeze'] },
  },
  {
    accepts: '409 by a hint that stands for a while after the outcome',
    history: history().first(1).send(2).inUse(2).swept(9).effect().record(),
    options: { inUseMs: 100 },
  },
  {
    accepts: '409 by a process that learns late what became of its COMMIT',
    history: history()
      .send(1)
      .lost(1)
      .fault('crash', 30, 1_000)
      .at(1_000)
      .send(2)
      .replay(2)
      .at(5_900)
      .send(3)
      .inUse(3)
      .swept(9)
      .effect()
      .record(),
    options: { inUseFaults: ['crash'] },
  },
  {
    accepts: 'handlers of lease mode that write nothing',
    history: lease().send(1).providerCall(1).ok(1).swept(9).record(),
    options: { leaseHandlersWrite: false },
  },
  {
    accepts: 'bystanders that are slow and fail while their database restarts, told when that is over',
    history: history()
      .bystanders(numbers(1_000, 100), 20)
      .at(10_000)
      .bystanders(numbers(2_000, 5), 100, 'lost')
      .bystanders(numbers(2_005, 5), 100)
      .at(12_000)
      .bystanders(numbers(2_010, 200), 25)
      .fault('restart', 10_000, 10_500)
      .fault('cache down', 9_000, 15_000)
      .first(1)
      .swept(9)
      .effect()
      .record(),
    options: { exemptFaults: ['restart'], exemptSettleMs: 1_000 },
  },
  {
    accepts: 'one slow bystander of a hundred',
    history: history()
      .bystanders(numbers(1_000, 100), 20)
      .fault('kill', 5_000, 20_000)
      .at(5_000)
      .bystanders(numbers(2_000, 99), 20)
      .bystanders([2_099], 900)
      .at(21_000)
      .first(1)
      .swept(9)
      .effect()
      .record(),
  },
  {
    accepts: 'ninety-nine slow bystanders: that is no 99th percentile',
    history: history()
      .bystanders(numbers(1_000, 100), 20)
      .fault('kill', 5_000, 120_000)
      .at(5_000)
      .bystanders(numbers(2_000, 99), 900)
      .at(121_000)
      .first(1)
      .swept(9)
      .effect()
      .record(),
  },
  {
    accepts: 'bystanders that are three times as slow on a machine that is, as those between faults show',
    history: pacedBystanders(60, 60),
    options: { bystanderBetween: true },
  },
  {
    accepts: 'bystanders that are slow between and after faults',
    history: history()
      .bystanders(numbers(1_000, 100), 20)
      .fault('kill', 5_000, 5_100)
      .fault('kill', 15_000, 15_100)
      .at(5_000)
      .bystanders([2_000], 20)
      .at(6_000)
      .bystanders(numbers(2_100, 10), 500)
      .at(15_000)
      .bystanders([2_001], 20)
      .at(16_000)
      .bystanders(numbers(2_200, 10), 500)
      .first(1)
      .swept(9)
      .effect()
      .record(),
  },
  {
    accepts: 'a pool that shrinks, memory that is used during faults, and what is left of both within bounds',
    history: history()
      .sample('baseline', { poolConnections: 20 })
      .first(1)
      .sample('faults', { residentBytes: 400_000_000, idleInTransaction: 3, timers: 90, expiredRecords: 50 })
      .swept(9)
      .sample('faults', { residentBytes: 300_000_000 })
      .sample('end', { residentBytes: 200_000_000, idleInTransaction: 2 })
      .sample('end', { residentBytes: 110_000_000, poolConnections: 3 })
      .effect()
      .record(),
  },
];
