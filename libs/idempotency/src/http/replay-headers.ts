import { headerOf, type PlatformResponse, setHeader } from './platform.js';

/** Response header that tells a replay (`true`) from a first execution (`false`). */
export const REPLAYED_HEADER = 'Idempotent-Replayed';

/**
 * Headers that are never stored, in lower case: those that hand out credentials or ask for them, those that describe one
 * connection, and those that every answer has of its own. Every `proxy-*` header is one of them too.
 */
export const NEVER_REPLAYED_HEADERS: readonly string[] = [
  'set-cookie',
  'set-cookie2',
  'authorization',
  'authentication-info',
  'www-authenticate',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-connection',
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'content-length',
  'date',
  'idempotent-replayed',
];

/** Fail closed: a header of this kind is left out even where an option names it. */
export function isNeverReplayed(name: string): boolean {
  const lower = name.toLowerCase();
  return lower.startsWith('proxy-') || NEVER_REPLAYED_HEADERS.includes(lower);
}

/** Headers without which the stored bytes would be read as something else; stored whatever the allow-list says. */
const REPRESENTATION_HEADERS = ['content-type', 'content-encoding'];

/**
 * The allow-listed headers of an answer, names in lower case. `own` are those that the answer brings along and that are
 * not on the response yet; they win.
 */
export function storedHeaders(
  response: PlatformResponse,
  allowed: readonly string[],
  own: ReadonlyMap<string, string> = new Map(),
): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of storableNames(allowed)) {
    const value = own.get(name) ?? headerOf(response, name);
    if (value !== undefined && value !== '') headers[name] = value;
  }
  return headers;
}

const namesOf = new WeakMap<readonly string[], readonly string[]>();

/** Names that may be stored, worked out once for each route's list. */
function storableNames(allowed: readonly string[]): readonly string[] {
  let names = namesOf.get(allowed);
  if (!names) {
    const all = new Set([...REPRESENTATION_HEADERS, ...allowed.map((name) => name.toLowerCase())]);
    namesOf.set(allowed, (names = [...all].filter((name) => !isNeverReplayed(name))));
  }
  return names;
}

/** Sets the headers of a stored answer and says whether it is a replay. */
export function setStoredHeaders(
  response: PlatformResponse,
  headers: Readonly<Record<string, string>>,
  replayed: boolean,
): void {
  for (const [name, value] of Object.entries(headers)) setHeader(response, name, value);
  setHeader(response, REPLAYED_HEADER, String(replayed));
}
