import { hash } from 'node:crypto';

const KEPT = 64;
const SHOWN = 40;
const HASH_CHARACTERS = 22;
/** The headers of an answer's text, and the empty line behind them. */
const HEAD = /^(?:[a-z0-9-]+: [^\n]*\n)*\n/;

/** Of a part of a text a copy is kept: a slice would keep all of the text in memory. */
export const copyOf = (text: string): string => Buffer.from(text).toString();

/**
 * What is kept of a text that is only compared and shown: itself when it is short, else its beginning and 132 bits of its hash. So a history
 * of large bodies needs no more memory than one of small ones.
 */
export function digestOf(text: string): string {
  if (text.length <= KEPT) return text;
  const digest = `${text.slice(0, SHOWN)}... (sha256 ${hash('sha256', text, 'base64').slice(0, HASH_CHARACTERS)})`;
  return copyOf(digest);
}

/**
 * An answer as one text, in the form that `Ok.body` has: a line for each header that a replay has to repeat, an empty line, the body.
 *
 * @param headers names in lower case; their order here does not count.
 */
export function answerText(headers: Readonly<Record<string, string>>, body: string): string {
  const names = Object.keys(headers).toSorted();
  return `${names.map((name) => `${name}: ${headers[name]}\n`).join('')}\n${body}`;
}

/** The two parts of such a text. One that does not begin with headers and an empty line is all body. */
export function partsOf(text: string): { readonly head: string; readonly body: string } {
  const head = HEAD.exec(text)?.[0] ?? '';
  return { head, body: text.slice(head.length) };
}

/** 2xx and 3xx: what the handler did stands. */
export const isSuccess = (status: number): boolean => status < 400;

/** Status of the replay of a stored answer, as docs/http-contract.md has it: a 2xx comes as 200, unless it says that there is no content. */
export function replayStatusOf(stored: number, replayStatus: 'ok' | 'original'): number {
  const hasContent = stored >= 200 && stored < 300 && stored !== 204 && stored !== 205;
  return replayStatus === 'ok' && hasContent ? 200 : stored;
}
