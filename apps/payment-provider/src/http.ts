import type { IncomingMessage, ServerResponse } from 'node:http';
import { Refusal, quote } from './refusal.js';

const MAX_BODY_BYTES = 16_384;

/** An answer in JSON. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export function answer(response: ServerResponse, { status, body, headers }: Answer): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    ...headers,
  });
  response.end(text);
}

/**
 * The JSON that a request carries, whatever content type it names.
 *
 * @throws Refusal when it is none, or too long; any other error when the connection ends before the body does.
 */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  // To the end even when it is too long: the connection is kept for the answer.
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (length > MAX_BODY_BYTES) {
    throw new Refusal(413, `The body must have at most ${MAX_BODY_BYTES} bytes; received ${length}.`);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(400, `The body must be JSON; received ${quote(text)}.`);
  }
}
