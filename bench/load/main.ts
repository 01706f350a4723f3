// The load generator, in a process of its own: autocannon, with a key for every request.
import autocannon from 'autocannon';
import { type KeyPlan, type LoadOrder, type LoadResult, ORDER } from './load.js';

function keysOf(plan: KeyPlan): () => string {
  let next = 0;
  switch (plan.kind) {
    case 'fresh':
      return () => `${plan.prefix}-${next++}`;
    case 'known': {
      const { prefix, count, first = 0, stride = 1, from = 0 } = plan;
      return () => `${prefix}-${first + ((from + next++ * stride) % count)}`;
    }
    case 'mixed': {
      // The share is kept exactly, spread evenly.
      let fresh = 0;
      let due = 0;
      return () => {
        due += plan.freshShare;
        if (due < 1 - Number.EPSILON * 8) return `${plan.known}-${next++ % plan.count}`;
        due -= 1;
        return `${plan.fresh}-${fresh++}`;
      };
    }
  }
}

function settlable(): { promise: Promise<void>; resolve: () => void; reject: (error: unknown) => void } {
  let resolve!: () => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<void>((done, fail) => {
    resolve = done;
    reject = fail;
  });
  return { promise, resolve, reject };
}

async function run(order: LoadOrder): Promise<LoadResult> {
  const nextKey = keysOf(order.keys);
  const times: number[] = [];
  let answered = 0;
  let unexpected = 0;
  let example: string | undefined;
  let began = performance.now();
  const { promise, resolve, reject } = settlable();
  const options: autocannon.Options = {
    url: order.url,
    connections: order.concurrency,
    // Whole seconds are all it knows; the end is ours to say.
    duration: Math.ceil((order.rampMs + order.durationMs) / 1_000) + 60,
    timeout: 30,
    requests: [
      {
        method: 'POST',
        path: order.path,
        body: ORDER,
        headers: { 'content-type': 'application/json' },
        setupRequest: (request) => {
          request.headers = { ...request.headers, 'idempotency-key': nextKey() };
          return request;
        },
        onResponse: (status, body) => {
          if (order.expected.includes(status)) return;
          unexpected++;
          example ??= `${status} ${body}`;
        },
      },
    ],
  };
  const instance = autocannon(options, (error) => (error ? reject(error) : resolve()));
  let ended = Number.NaN;
  let isCounting = false;
  // What is answered before the beginning or after the end does not count.
  instance.on('response', (_client, _status, _bytes, time) => {
    answered++;
    if (isCounting) times.push(time);
  });
  instance.on('reqError', (error: Error) => {
    unexpected++;
    example ??= String(error);
  });
  setTimeout(() => {
    began = performance.now();
    isCounting = true;
    setTimeout(() => {
      ended = performance.now();
      isCounting = false;
      instance.stop();
    }, order.durationMs);
  }, order.rampMs);
  await promise;
  return {
    requests: times.length,
    answered,
    seconds: (ended - began) / 1_000,
    timesMs: times,
    unexpected,
    example,
  };
}

process.on('message', (order: LoadOrder) => {
  void run(order).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
