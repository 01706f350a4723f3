import { mutant } from './exhibit.mjs';

/** @type {readonly import('./exhibit.mjs').Exhibit[]} */
export const ANSWERS = [
  {
    name: 'a result of nothing is taken for no result',
    peers: 'node-idempotency (at 622b33f), Powertools for AWS Lambda (typescript #2505; python #8090)',
    seen: 'the retry of a handler that returns nothing was answered 500, or ran it again',
    edits: [
      {
        file: 'engine/answered.ts',
        find: 'return outcome.response.body === null ?',
        replace: 'return !outcome.response.body?.length ?',
      },
    ],
    spec: 'test/results.e2e-spec.ts',
  },
  {
    name: 'a result that cannot be stored leaves its key in progress, or runs again',
    peers: 'node-idempotency (at 622b33f), @nestjs/idempotency (at a182e155)',
    seen: 'a BigInt or a stream in the answer locked the key; streams ran again',
    edits: [mutant('an answer that cannot be stored is run again')],
    spec: 'test/results.e2e-spec.ts',
  },
  {
    name: 'a failure of the moment is replayed for good',
    peers: 'C-Address #380, remitlend #1329, novu',
    seen: 'answers of 500 were kept, so that no retry could succeed',
    edits: [
      {
        file: 'resolve-options.ts',
        find: 'storeIf: (status) => status < 500,',
        replace: 'storeIf: (status) => status < 600,',
      },
    ],
    spec: 'test/outcomes.e2e-spec.ts',
  },
  {
    name: 'a final refusal deletes its record',
    peers: 'hono-idempotency #178, nestarc (at 9610774)',
    seen: 'every error let the handler run again, also those that it had decided on',
    edits: [
      {
        file: 'http/idempotency.interceptor.ts',
        find: 'if (!attempt.handlerBegan || !route.storeIf(status, error)) return',
        replace: 'if (!attempt.handlerBegan || status >= 300) return',
      },
    ],
    spec: 'test/outcomes.e2e-spec.ts',
  },
  {
    name: 'a replay hands out the cookies of the first answer',
    peers: 'Fiber (at 073ed97), granit (VULN-200)',
    seen: 'all headers were kept by default, Set-Cookie among them',
    edits: [
      {
        file: 'http/replay-headers.ts',
        find: "  'set-cookie',\n",
        replace: '',
      },
      {
        file: 'http/replay-headers.ts',
        find: "const REPRESENTATION_HEADERS = ['content-type', 'content-encoding'];",
        replace: "const REPRESENTATION_HEADERS = ['content-type', 'content-encoding', 'set-cookie'];",
      },
    ],
    spec: 'test/results.e2e-spec.ts',
  },
  {
    name: 'fields that the serializer takes out are stored',
    peers: 'interceptors of NestJS in the wrong order',
    seen: 'what is stored is not what is sent, and @Exclude() fields come out with the replay',
    edits: [mutant('the answer is stored before serializers have run')],
    spec: 'test/results.e2e-spec.ts',
  },
  {
    name: 'a cache answers with what is not of this request',
    peers: 'devlink #1195',
    seen: 'another payload got the stored answer',
    edits: [mutant('another payload is answered from a copy')],
    spec: 'test/replay-cache.e2e-spec.ts',
  },
  {
    name: 'a copy is answered although its record has expired',
    peers: 'Powertools for AWS Lambda (typescript #2309)',
    seen: 'the memory of an instance went on answering what was not so any more',
    edits: [mutant('a copy outlives its record')],
    spec: 'test/replay-cache.e2e-spec.ts',
  },
];
