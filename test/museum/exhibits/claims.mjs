import { mutant } from './exhibit.mjs';

const SQL = 'store/idempotency.sql.ts';
const UNLOCKED = {
  file: SQL,
  find: 'LEFT JOIN (${LOCKED} SKIP LOCKED) AS l',
  replace: "LEFT JOIN (${LOCKED.replace('FOR UPDATE', '')}) AS l",
};

/** @type {readonly import('./exhibit.mjs').Exhibit[]} */
export const CLAIMS = [
  {
    name: 'look first, then begin: two requests both find nothing',
    peers: 'express-idempotency (at e1e429e), IdempotentAPI #19, one_and_done #6',
    seen: 'requests that came together all ran',
    edits: [UNLOCKED, mutant('fence removed from COMPLETE')],
    spec: 'test/waiting.e2e-spec.ts',
  },
  {
    name: 'an expired record is run by everybody who finds it',
    peers: 'node-idempotency (at 622b33f)',
    seen: '5 of 5 requests that found an expired record ran',
    edits: [
      UNLOCKED,
      mutant('fence removed from COMPLETE'),
      {
        file: SQL,
        find: ' WHERE r.key_hash = $1 AND r.attempt = $2`;',
        replace: ' WHERE r.key_hash = $1 AND $2::int > 0`;',
      },
    ],
    spec: 'test/attempts.e2e-spec.ts',
  },
  {
    name: 'a claim writes over the record of the winner',
    peers: 'idempot-js #182, #187',
    seen: 'a claim in Redis set the key whether it was there or not',
    edits: [
      {
        file: SQL,
        find: 'FROM quick\nON CONFLICT (key_hash) DO NOTHING`;',
        replace: `FROM quick
ON CONFLICT (key_hash) DO UPDATE
   SET status = 'pending', response_status = NULL, response_headers = NULL, response_body = NULL, completed_at = NULL\`;`,
      },
    ],
    spec: 'test/waiting.e2e-spec.ts',
  },
  {
    name: 'who loses the race is told that the store has failed',
    peers: 'idempot-js #181, #186',
    seen: 'duplicates of a request in flight were answered 503',
    edits: [
      {
        file: 'engine/answered.ts',
        find: "    case 'in-flight':\n      return { kind: 'in-flight' };",
        replace: "    case 'in-flight':\n      throw new Error('the record is held by another request');",
      },
    ],
    spec: 'test/waiting.e2e-spec.ts',
  },
  {
    name: 'the record is not seen before its request has finished',
    peers: 'Mastodon #37879',
    seen: 'a second request before the end of the first one was not recognised',
    edits: [mutant('claim inside the transaction of the handler')],
    spec: 'test/waiting.e2e-spec.ts',
  },
  {
    name: 'a duplicate waits for the first request with a connection in hand',
    peers: 'idempo (README at 55715b4)',
    seen: 'a connection is held for as long as a request takes',
    edits: [mutant('SKIP LOCKED removed')],
    spec: 'test/waiting.e2e-spec.ts',
  },
  {
    name: 'a request that died is in progress for good',
    peers: 'express-idempotency #32, actor-ts #984, Powertools for AWS Lambda (python #1038)',
    seen: 'a crash left a key that nobody could use, for three days in one case',
    edits: [
      {
        file: 'engine/acquire.ts',
        find: '          const abandoned = abandonedCount(record);',
        replace:
          "          if (record.status === 'pending' && !record.expired) return { kind: 'in-flight' };\n          const abandoned = abandonedCount(record);",
      },
    ],
    spec: 'test/attempts.e2e-spec.ts',
  },
  {
    name: 'a request gives a record back that another one holds',
    peers: 'Powertools for AWS Lambda (typescript #5675)',
    seen: 'a request that had lost the race deleted the record of the winner',
    edits: [
      {
        file: SQL,
        find: " WHERE key_hash = $1 AND attempt = $2 AND status = 'pending' AND ${BORN} = $4::bigint`;",
        replace: " WHERE key_hash = $1 AND $2::int > 0 AND status = 'pending' AND $4::bigint > 0`;",
      },
    ],
    spec: 'test/store.e2e-spec.ts',
  },
];
