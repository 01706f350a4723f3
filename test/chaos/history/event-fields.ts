import type { HistoryEvent } from './event.js';

type Kind = HistoryEvent['kind'];
type EventOf<K extends Kind> = Extract<HistoryEvent, { kind: K }>;

/** What a field has to hold, and how that is called in an error. */
interface Field {
  readonly is: (value: unknown) => boolean;
  readonly name: string;
}

const TEXT: Field = { is: (value) => typeof value === 'string', name: 'a string' };
const FLAG: Field = { is: (value) => typeof value === 'boolean', name: 'a boolean' };
const COUNT: Field = { is: (value) => Number.isSafeInteger(value) && Number(value) >= 0, name: 'a count' };
const TIME: Field = {
  is: (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0,
  name: 'a time',
};

const orNull = ({ is, name }: Field): Field => ({
  is: (value) => value === null || is(value),
  name: `${name} or null`,
});
const optional = ({ is, name }: Field): Field => ({ is: (value) => value === undefined || is(value), name });
const oneOf = (...allowed: readonly string[]): Field => ({
  is: (value) => typeof value === 'string' && allowed.includes(value),
  name: `one of ${allowed.join(', ')}`,
});

const SUBJECT = { scope: TEXT, operation: TEXT, key: TEXT };

/** Every field of every event: the compiler holds this table to the types. */
const FIELDS: { readonly [K in Kind]: { readonly [F in Exclude<keyof EventOf<K>, 'kind'>]-?: Field } } = {
  invoke: {
    ...SUBJECT,
    call: COUNT,
    atMs: TIME,
    mode: oneOf('transaction', 'lease', 'bystander'),
    payload: TEXT,
    isSweep: FLAG,
    directTo: optional(TEXT),
  },
  ok: { call: COUNT, atMs: TIME, status: COUNT, replayed: FLAG, body: TEXT },
  refused: { call: COUNT, atMs: TIME, status: COUNT, code: TEXT, body: TEXT },
  unknown: { call: COUNT, atMs: TIME, cause: TEXT },
  effect: { ...SUBJECT, payload: TEXT, attempt: COUNT },
  record: {
    ...SUBJECT,
    status: oneOf('pending', 'completed', 'error'),
    responseStatus: orNull(COUNT),
    responseBody: orNull(TEXT),
  },
  'provider-call': {
    ...SUBJECT,
    atMs: TIME,
    attempt: COUNT,
    step: optional(TEXT),
    downstreamKey: TEXT,
    onAbandoned: oneOf('retry', 'fail'),
  },
  sample: {
    atMs: TIME,
    phase: oneOf('baseline', 'faults', 'end'),
    residentBytes: COUNT,
    poolConnections: COUNT,
    idleInTransaction: COUNT,
    timers: COUNT,
    expiredRecords: COUNT,
  },
  fault: { atMs: TIME, untilMs: TIME, name: TEXT, target: TEXT },
};

const CHECKS = new Map(Object.entries(FIELDS).map(([kind, fields]) => [kind, Object.entries(fields)]));

/**
 * A value as the event that it is. Fields that no event has are left alone.
 *
 * @throws TypeError that names the field that is missing or wrong.
 */
export function toEvent(value: unknown): HistoryEvent {
  if (typeof value !== 'object' || value === null) throw new TypeError('it is no object');
  const fields = value as Record<string, unknown>;
  const { kind } = fields;
  const checks = typeof kind === 'string' ? CHECKS.get(kind) : undefined;
  if (!checks) throw new TypeError(`there is no kind ${JSON.stringify(kind)}`);
  for (const [field, { is, name }] of checks) {
    if (!is(fields[field])) {
      throw new TypeError(
        `${field} of ${String(kind)} is ${JSON.stringify(fields[field])}, and has to be ${name}`,
      );
    }
  }
  return value as HistoryEvent;
}
