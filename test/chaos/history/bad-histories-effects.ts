import type { BadHistory } from './bad-history.js';
import { history, lease, wellUsed } from './history-builder.js';

/** P1, P2 and P5: what was committed. */
export const BAD_EFFECTS: readonly BadHistory[] = [
  {
    finds: 'two rows for one key',
    promise: 'P1',
    message: '2 rows for one key: attempt 1 "a" and attempt 2 "a"',
    history: wellUsed().effect({ attempt: 2 }),
  },
  {
    finds: 'two rows of one attempt, as of a handler that was run twice under one claim',
    promise: 'P1',
    message: '2 rows for one key: attempt 1 "a" and attempt 1 "a"',
    history: wellUsed().effect(),
  },
  {
    finds: 'a success that was answered and left nothing',
    promise: 'P1',
    message: 'no row, although call 1 got 201 {"id":1,"owner":"ann"}',
    history: history().first(1, { isSweep: true }),
  },
  {
    finds: 'a row behind an error that the handler decided on',
    promise: 'P1',
    message: 'a row, although the outcome is an error: call 1 got 402 declined',
    history: history()
      .send(1)
      .ok(1, 402, 'declined')
      .swept(9, 402, 'declined')
      .effect()
      .record({ status: 'error', responseStatus: 402, responseBody: 'declined' }),
  },
  {
    finds: 'a row behind an error that only the record tells of',
    promise: 'P1',
    message: 'a row, although the outcome is an error: the record is error 402 without its body',
    history: history()
      .send(1)
      .lost(1)
      .send(9, { isSweep: true })
      .refused(9, 500, 'IDEMPOTENCY_RESPONSE_NOT_STORED')
      .effect()
      .record({ status: 'error', responseStatus: 402, responseBody: null }),
  },
  {
    finds: 'a phase that committed in two attempts',
    promise: 'P1',
    message: '2 rows for one key: attempt 1 "a" and attempt 2 "a"',
    history: lease().send(1).lost(1).first(2).swept(9).effect().effect({ attempt: 2 }).record(),
  },
  {
    finds: 'a success of lease mode that left nothing',
    promise: 'P1',
    message: 'no row, although call 1 got 201 {"id":1,"owner":"ann"}',
    history: lease().first(1, { isSweep: true }).unanswered('pending'),
  },
  {
    finds: 'a completed record without its row',
    promise: 'P2',
    message: 'a record without its row: completed 201 without its body',
    history: history()
      .send(1)
      .lost(1)
      .send(9, { isSweep: true })
      .refused(9, 500, 'IDEMPOTENCY_RESPONSE_NOT_STORED')
      .record({ responseBody: null }),
  },
  {
    finds: 'a row without any record',
    promise: 'P2',
    message: 'a row of attempt 1 without a completed record: there is none',
    history: history().first(1, { isSweep: true }).effect(),
  },
  {
    finds: 'a row whose record was released',
    promise: 'P2',
    message: 'a row of attempt 1 without a completed record: it is released',
    history: history().first(1, { isSweep: true }).effect().unanswered('error'),
  },
  {
    finds: 'a row whose record is still pending in transaction mode',
    promise: 'P2',
    message: 'a row of attempt 2 without a completed record: it is pending',
    history: history().first(1, { isSweep: true }).effect({ attempt: 2 }).unanswered('pending'),
  },
  {
    finds: 'a row of a key that was given up',
    promise: 'P2',
    message: 'a row of attempt 5 without a completed record: it is pending',
    history: history()
      .send(1)
      .lost(1)
      .send(9, { isSweep: true })
      .refused(9, 500, 'IDEMPOTENCY_ATTEMPTS_EXHAUSTED')
      .effect({ attempt: 5 })
      .unanswered('pending'),
  },
  {
    finds: 'a phase whose record was released, when nobody was answered',
    promise: 'P2',
    message: 'a row of attempt 1 without a completed record: it is released',
    history: lease()
      .send(1)
      .providerCall(1, { onAbandoned: 'fail' })
      .lost(1)
      .send(9, { isSweep: true })
      .refused(9, 503, 'IDEMPOTENCY_OUTCOME_UNKNOWN')
      .effect()
      .unanswered('error'),
  },
  {
    finds: 'two records for one key',
    promise: 'P2',
    message: '2 records for one key',
    history: wellUsed().record(),
  },
  {
    finds: 'a success of lease mode that was answered and not recorded',
    promise: 'P2',
    message: 'a row of attempt 1 without a completed record: it is pending',
    history: lease().first(1, { isSweep: true }).effect().unanswered('pending'),
  },
  {
    finds: 'a phase whose record is gone',
    promise: 'P2',
    message: 'a row of attempt 1 without a completed record: there is none',
    history: lease().first(1, { isSweep: true }).effect(),
  },
  {
    finds: 'a phase whose record was released',
    promise: 'P2',
    message: 'a row of attempt 1 without a completed record: it is released',
    history: lease().first(1, { isSweep: true }).effect().unanswered('error'),
  },
  {
    finds: 'a row for what nobody asked for',
    promise: 'P5',
    message: 'a row of attempt 1 for "z", which no call asked for',
    history: history().first(1).swept(9).effect({ payload: 'z' }).record(),
  },
  {
    finds: 'a row of a key that nobody used',
    promise: 'P5',
    message: 'a row of attempt 1 for "a", which no call asked for',
    history: wellUsed().on({ key: 'k2' }).effect().record(),
  },
  {
    finds: 'rows for two payloads of one key',
    promise: 'P5',
    message: 'rows for 2 payloads: "a" and "b"',
    history: lease()
      .first(1)
      .send(2, { payload: 'b' })
      .refused(2, 422, 'IDEMPOTENCY_KEY_REUSED')
      .swept(9)
      .effect()
      .effect({ payload: 'b', attempt: 2 })
      .record(),
    options: { leaseHandlersWrite: false },
  },
  {
    finds: 'a stored answer that was given to another payload',
    promise: 'P5',
    message: 'call 2 asked for "b" and got 200 (replayed) {"id":1,"owner":"ann"}, and the key stands for "a"',
    history: history().first(1).send(2, { payload: 'b' }).replay(2).swept(9).effect().record(),
  },
  {
    finds: 'another payload that was executed',
    promise: 'P5',
    message: 'call 2 asked for "b" and got 402 declined, and the key stands for "a"',
    history: history().first(1).send(2, { payload: 'b' }).ok(2, 402, 'declined').swept(9).effect().record(),
  },
  {
    finds: 'a success for another payload than that of the row',
    promise: 'P5',
    message: 'call 1 asked for "b" and got 201 {"id":1,"owner":"ann"}, and the key stands for "a"',
    history: history().send(1, { payload: 'b' }).send(2).ok(1).replay(2).swept(9).effect().record(),
  },
  {
    finds: 'a stored answer that was given to another payload, where the handler decided on an error',
    promise: 'P5',
    message: 'call 2 asked for "b" and got 402 (replayed) declined, and the key stands for "a"',
    history: history()
      .send(1)
      .ok(1, 402, 'declined')
      .send(2, { payload: 'b' })
      .replay(2, 402, 'declined')
      .swept(9, 402, 'declined')
      .record({ status: 'error', responseStatus: 402, responseBody: 'declined' }),
  },
  {
    finds: 'another payload that is told to wait, when the outcome is known',
    promise: 'P5',
    message: 'call 2 with another payload got 409 IDEMPOTENCY_KEY_IN_USE after the outcome',
    history: history().first(1).send(2, { payload: 'b' }).inUse(2).swept(9).effect().record(),
  },
  {
    finds: 'another payload that was run and rolled back, when the outcome is known',
    promise: 'P5',
    message: 'call 2 with another payload got 503 IDEMPOTENCY_TRANSACTION_CONFLICT after the outcome',
    history: history()
      .first(1)
      .send(2, { payload: 'b' })
      .refused(2, 503, 'IDEMPOTENCY_TRANSACTION_CONFLICT')
      .swept(9)
      .effect()
      .record(),
  },
];
