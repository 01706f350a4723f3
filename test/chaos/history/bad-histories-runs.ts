import type { BadHistory } from './bad-history.js';
import {
  history,
  type HistoryBuilder,
  lease,
  numbers,
  pacedBystanders,
  wellUsed,
} from './history-builder.js';

/** 100 bystander calls of 20 ms, a well used key, a fault of 20 s, and what comes in it. */
const faulty = (): HistoryBuilder =>
  history().bystanders(numbers(1_000, 100), 20).fault('kill', 10_000, 30_000).at(10_000);

/** P4, P7, P8 and P9: what became of the run. */
export const BAD_RUNS: readonly BadHistory[] = [
  {
    finds: 'a key that was never swept',
    promise: 'P4',
    message: 'it was never swept',
    history: history().first(1).effect().record(),
  },
  {
    finds: 'a key that stays in flight',
    promise: 'P4',
    message: 'no sweep call was answered finally, the last one: call 10 got 409 IDEMPOTENCY_KEY_IN_USE',
    history: history()
      .send(1)
      .lost(1)
      .send(9, { isSweep: true })
      .inUse(9)
      .at(60_000)
      .send(10, { isSweep: true })
      .inUse(10)
      .unanswered('pending'),
  },
  {
    finds: 'a key that is answered too late',
    promise: 'P4',
    message: 'it was answered finally after 34020 ms; 32000 ms are allowed',
    history: history()
      .send(1)
      .lost(1)
      .fault('kill', 100, 5_000)
      .at(4_000)
      .send(9, { isSweep: true })
      .inUse(9)
      .at(39_000)
      .send(10, { isSweep: true })
      .ok(10)
      .effect({ attempt: 2 })
      .record(),
    options: { answerWithinMs: 32_000 },
  },
  {
    finds: 'a key that never gets an answer at all',
    promise: 'P4',
    message: 'no sweep call was answered finally, the last one: call 9 got no answer (timeout)',
    history: history().send(1).lost(1).send(9, { isSweep: true }).lost(9, 'timeout').unanswered('error'),
  },
  {
    finds: 'an outcome that stays unknown in transaction mode',
    promise: 'P4',
    message: 'no sweep call was answered finally, the last one: call 9 got 503 IDEMPOTENCY_OUTCOME_UNKNOWN',
    history: history().leftOpen(1, 9, [5]),
  },
  {
    finds: 'a key that is left to a person, on a route that retries',
    promise: 'P4',
    message: 'no sweep call was answered finally, the last one: call 9 got 503 IDEMPOTENCY_OUTCOME_UNKNOWN',
    history: lease().leftOpen(1, 9, [1]),
  },
  {
    finds: 'a key that only another payload was swept with',
    promise: 'P4',
    message: 'no sweep call was answered finally, the last one: call 9 got 422 IDEMPOTENCY_KEY_REUSED',
    history: history()
      .send(1)
      .lost(1)
      .send(9, { payload: 'b', isSweep: true })
      .refused(9, 422, 'IDEMPOTENCY_KEY_REUSED')
      .effect()
      .record(),
  },
  {
    finds: 'another downstream key in the next attempt',
    promise: 'P7',
    message: 'the step has 2 downstream keys: d-k1, and d-new in attempt 2',
    history: lease()
      .send(1)
      .providerCall(1)
      .lost(1)
      .send(2)
      .providerCall(2, { downstreamKey: 'd-new' })
      .ok(2)
      .swept(9)
      .effect({ attempt: 2 })
      .record(),
  },
  {
    finds: 'another downstream key in the next attempt of one of two steps',
    promise: 'P7',
    message: 'step "charge" has 2 downstream keys: d1, and d3 in attempt 2',
    history: lease()
      .send(1)
      .providerCall(1, { step: 'charge', downstreamKey: 'd1' })
      .providerCall(1, { step: 'mail', downstreamKey: 'd2' })
      .lost(1)
      .send(2)
      .providerCall(2, { step: 'charge', downstreamKey: 'd3' })
      .providerCall(2, { step: 'mail', downstreamKey: 'd2' })
      .ok(2)
      .swept(9)
      .effect({ attempt: 2 })
      .record(),
  },
  {
    finds: 'one downstream key for two steps',
    promise: 'P7',
    message: 'downstream key d1 is used by step "charge" and step "mail"',
    history: lease()
      .send(1)
      .providerCall(1, { step: 'charge', downstreamKey: 'd1' })
      .providerCall(1, { step: 'mail', downstreamKey: 'd1' })
      .ok(1)
      .swept(9)
      .effect()
      .record(),
  },
  {
    finds: 'one downstream key for two keys',
    promise: 'P7',
    message: 'downstream key d-k1 is that of key "k1" of "ann", too',
    history: lease().charged(1, 9).on({ key: 'k2' }).charged(2, 10, { downstreamKey: 'd-k1' }),
  },
  {
    finds: 'one downstream key for the same key of two scopes',
    promise: 'P7',
    message: 'downstream key d-k1 is that of key "k1" of "ann", too',
    history: lease().charged(1, 9).on({ scope: 'bob' }).charged(2, 10),
  },
  {
    finds: 'a second attempt at what must not be asked for twice',
    promise: 'P7',
    message: "attempt 2 called after attempt 1 had, under onAbandoned 'fail'",
    history: lease()
      .send(1)
      .providerCall(1, { onAbandoned: 'fail' })
      .lost(1)
      .send(2)
      .providerCall(2, { onAbandoned: 'fail' })
      .ok(2)
      .swept(9)
      .effect({ attempt: 2 })
      .record(),
  },
  {
    finds: 'an attempt that calls when the next one has',
    promise: 'P7',
    message: 'attempt 1 called after attempt 2 had',
    history: lease()
      .send(1)
      .send(2)
      .providerCall(2)
      .providerCall(1)
      .lost(1)
      .ok(2)
      .swept(9)
      .effect({ attempt: 2 })
      .record(),
  },
  {
    finds: 'an attempt that calls late, when what held it up was long over',
    promise: 'P7',
    message: 'attempt 1 called after attempt 2 had',
    history: lease()
      .send(1)
      .fault('freeze', 50, 10_000)
      .at(5_000)
      .send(2)
      .providerCall(2)
      .ok(2)
      .at(20_000)
      .providerCall(1)
      .lost(1)
      .swept(9)
      .effect({ attempt: 2 })
      .record(),
    options: { holdUpFaults: ['freeze'] },
  },
  {
    finds: 'a call to the provider for a key that nobody used',
    promise: 'P7',
    message: 'attempt 1 called for a key that no request used',
    history: wellUsed().on({ operation: 'POST /ledger/lease', mode: 'lease' }).providerCall(1),
  },
  {
    finds: 'bystanders that wait three times as long while something is broken',
    promise: 'P8',
    message: 'p99 of 100 bystander calls during faults: 60 ms, before them 20 ms; it has to be under 50 ms',
    history: faulty().bystanders(numbers(2_000, 100), 60).at(31_000).first(1).swept(9).effect().record(),
  },
  {
    finds: 'two slow bystanders of a hundred',
    promise: 'P8',
    message: 'p99 of 100 bystander calls during faults: 90.5 ms, before them 20 ms; it has to be under 50 ms',
    history: faulty()
      .bystanders(numbers(2_000, 98), 20)
      .bystanders([2_098, 2_099], 90.5)
      .at(31_000)
      .first(1)
      .swept(9)
      .effect()
      .record(),
  },
  {
    finds: 'bystanders that twice the time is too much for',
    promise: 'P8',
    message: 'p99 of 100 bystander calls during faults: 40 ms, before them 20 ms; it has to be under 40 ms',
    history: faulty().bystanders(numbers(2_000, 100), 40).at(31_000).first(1).swept(9).effect().record(),
    options: { bystanderFloorMs: 0 },
  },
  {
    finds: 'bystanders that are not answered',
    promise: 'P8',
    message:
      '5 of 100 bystander calls during faults failed, 99.9 % have to be answered; the first one: no answer (ECONNRESET)',
    history: faulty()
      .bystanders(numbers(2_000, 5), 20, 'lost')
      .bystanders(numbers(2_005, 95), 20)
      .at(31_000)
      .first(1)
      .swept(9)
      .effect()
      .record(),
  },
  {
    finds: 'bystanders that are slow from what a short fault has left',
    promise: 'P8',
    message: 'p99 of 100 bystander calls during faults: 60 ms, before them 20 ms; it has to be under 50 ms',
    history: history()
      .bystanders(numbers(1_000, 100), 20)
      .fault('lost COMMIT', 10_000, 10_020)
      .at(10_050)
      .bystanders(numbers(2_000, 100), 60)
      .at(31_000)
      .first(1)
      .swept(9)
      .effect()
      .record(),
    options: { bystanderSettleMs: 10_000 },
  },
  {
    finds:
      'bystanders that wait three times as long during faults as between them, on a machine that became slower',
    promise: 'P8',
    message:
      'p99 of 100 bystander calls during faults: 180 ms, away from them 60 ms; it has to be under 120 ms',
    history: pacedBystanders(180, 60),
    options: { bystanderBetween: true },
  },
  {
    finds: 'bystanders that are slow for good since the first fault',
    promise: 'P8',
    message:
      'p99 of 300 bystander calls away from faults: 200 ms, before the first 20 ms; it has to be under 200 ms',
    history: pacedBystanders(200, 200),
    options: { bystanderBetween: true },
  },
  {
    finds: 'bystanders that are slow when the fault that may hit them is over',
    promise: 'P8',
    message: 'p99 of 100 bystander calls during faults: 60 ms, before them 20 ms; it has to be under 50 ms',
    history: faulty()
      .fault('restart', 10_000, 11_000)
      .bystanders(numbers(2_000, 10), 250)
      .at(14_000)
      .bystanders(numbers(2_010, 100), 60)
      .at(31_000)
      .first(1)
      .swept(9)
      .effect()
      .record(),
    options: { exemptFaults: ['restart'] },
  },
  {
    finds: 'a connection that stays idle in its transaction',
    promise: 'P9',
    message: '1 connections idle in a transaction at the end, where 0 may be',
    history: wellUsed().sample('baseline').sample('faults').sample('end', { idleInTransaction: 1 }),
  },
  {
    finds: 'connections that do not come back to where they were',
    promise: 'P9',
    message: '12 connections of the pool at the end, where 10 may be',
    history: wellUsed().sample('baseline').sample('end', { poolConnections: 12 }),
  },
  {
    finds: 'timers that go on',
    promise: 'P9',
    message: '9 timers at the end, where 5 may be',
    history: wellUsed().sample('baseline', { timers: 5 }).sample('baseline').sample('end', { timers: 9 }),
  },
  {
    finds: 'expired records that nobody deletes',
    promise: 'P9',
    message: '7 expired records at the end, where 0 may be',
    history: wellUsed().sample('baseline').sample('end', { expiredRecords: 7 }),
  },
  {
    finds: 'memory that grows with every request',
    promise: 'P9',
    message: 'resident memory grows by 5000000 bytes per 1000 requests; 1000000 are allowed',
    history: growing(5_000),
  },
];

/** A key that is replayed again and again, and so many bytes more for each request. */
function growing(bytesPerRequest: number): HistoryBuilder {
  const growth = history().first(1).sample('baseline', { residentBytes: 50_000_000 });
  for (const call of numbers(100, 60)) {
    growth.send(call).replay(call);
    if (call % 10 === 9) {
      growth.sample('faults', { residentBytes: 100_000_000 + (call - 98) * bytesPerRequest });
    }
  }
  return growth
    .swept(9)
    .sample('end', { residentBytes: 100_000_000 + 62 * bytesPerRequest })
    .effect()
    .record();
}
