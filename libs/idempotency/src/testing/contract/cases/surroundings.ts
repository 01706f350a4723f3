import { randomBytes } from 'node:crypto';
import type { CaseDefinition } from '../case-definition.js';
import { AT_ONCE_MS, atOnce, begun, holds, tally } from '../expectations.js';
import { entryOf } from '../lease-calls.js';
import type { Stage } from '../stage.js';

const LEVELS = ['read committed', 'repeatable read', 'serializable'] as const;
const CALLERS = 8;
const MEBIBYTE = 1_048_576;

/** Bodies that have been lost, cut or changed on their way into a database and back. */
const BODIES: Readonly<Record<string, Buffer | null>> = {
  'no body that could be stored': null,
  'an empty body': Buffer.alloc(0),
  'U+0000': Buffer.from('{"a":"\0"}\0'),
  'an escaped U+0000': Buffer.from('{"a":"\\u0000"}'),
  'every byte': Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
  'what looks like bytea': Buffer.from('\\x00\\000 \\\\'),
  'half a surrogate': Buffer.from([0xed, 0xa0, 0x80]),
  '1 MiB': randomBytes(MEBIBYTE),
};

/** In an order that no sorting would give them. */
const HEADERS = {
  location: '/orders/1',
  etag: '"1"',
  'content-type': 'text/plain; charset=utf-8',
  'x-a': 'ü',
};

/** That the database keeps what it is given, whatever it is set to. */
export const surroundings: readonly CaseDefinition[] = [
  {
    name: 'transaction mode: an answer comes back as it was stored: no body, any bytes, 1 MiB, headers in their order',
    prove: async (on) => {
      for (const [what, body] of Object.entries(BODIES)) {
        const identity = on.identity();
        const response = { status: 202, headers: HEADERS, body };
        await on.transactions.completed(await on.transactions.own(identity), { response });
        const { record } = await on.transactions.claim(identity);
        expectSame(what, record?.state === 'final' ? record.response : record, response);
      }
    },
  },
  {
    name: 'lease mode: an answer and the journal come back as they were stored',
    prove: async (on) => {
      for (const [what, body] of Object.entries(BODIES)) {
        const identity = on.identity();
        const { fence } = await on.leases.own(identity);
        if (body) await on.leases.journal(fence, entryOf('step', { body }));
        await on.endLease(identity);
        const next = await on.leases.own(identity);
        holds(`a step's result, ${what}`, next.journal[0]?.body ?? null, body);
        const response = { status: 202, headers: HEADERS, body };
        await on.leases.complete(next.fence, response);
        const record = await on.leases.read(identity);
        expectSame(what, record.state === 'final' ? record.response : record, response);
      }
    },
  },
  {
    name: "transaction mode: works at READ COMMITTED, whatever the session's default isolation level is",
    prove: async (on) => {
      for (const level of LEVELS) {
        const identity = on.identity();
        const owner = await on.transactions.own(identity, { level });
        holds(`the level of an attempt, ${level} by default`, await levelOf(owner.session), 'read committed');
        const waiting = begun(on.transactions.claim(identity, { level, waitMs: AT_ONCE_MS }));
        await on.untilWaitedFor(owner.session);
        await on.transactions.completed(owner);
        const { found } = await atOnce('a claim that waits', waiting, 2 * AT_ONCE_MS);
        holds(`a claim that waited, ${level} by default`, found, 'final');
      }
    },
  },
  {
    name: "lease mode: works whatever the session's default isolation level is, and its phases at READ COMMITTED",
    prove: async (on) => {
      for (const level of LEVELS) {
        const identity = on.identity();
        const { fence } = await on.leases.own(identity, { level });
        const phase = await on.leases.phase(fence, level);
        holds(`the level of a phase, ${level} by default`, phase && (await levelOf(phase)), 'read committed');
        if (phase) await on.close(phase);
        await on.endLease(identity);
        const found = await Promise.all(
          Array.from({ length: CALLERS }, () => on.leases.claim(identity, { level })),
        );
        holds(`claims at once, ${level} by default`, tally(found), { claimed: 1, 'in-flight': CALLERS - 1 });
      }
    },
  },
];

function expectSame(
  what: string,
  found: unknown,
  response: {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Buffer | null;
  },
): void {
  holds(`an answer with ${what}`, found, response);
  const { headers } = found as typeof response;
  holds('the order of its headers', Object.keys(headers), Object.keys(response.headers));
}

async function levelOf(session: Awaited<ReturnType<Stage['open']>>): Promise<unknown> {
  const { rows } = await session.query({ text: `SELECT current_setting('transaction_isolation') AS level` });
  return rows[0]?.['level'];
}
