import { createReadStream } from 'node:fs';
import { toEvent } from './event-fields.js';
import type { HistoryEvent } from './event.js';
import { BrokenHistoryError } from './verdict.js';

const CHUNK_BYTES = 1 << 20;

/**
 * The events of a file, one line of JSON each, as they are read: no more of it is held than a chunk and a line.
 *
 * @throws BrokenHistoryError that names the line which holds no event.
 */
export function readHistory(file: string): AsyncGenerator<HistoryEvent> {
  return parseHistory(createReadStream(file, { encoding: 'utf8', highWaterMark: CHUNK_BYTES }));
}

/**
 * The same of text in pieces of any size. Lines end with `\n` alone: `node:readline` also ends them at U+2028, which JSON has no need
 * to escape in a string.
 */
export async function* parseHistory(
  chunks: AsyncIterable<string> | Iterable<string>,
): AsyncGenerator<HistoryEvent> {
  let line = 0;
  // The beginning of a line that is not complete, in pieces: a long one is put together once.
  let begun: string[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf('\n'); end !== -1; end = chunk.indexOf('\n', start)) {
      const rest = chunk.slice(start, end);
      const text = begun.length === 0 ? rest : begun.join('') + rest;
      begun = [];
      start = end + 1;
      yield parseLine(text, (line += 1));
    }
    if (start < chunk.length) begun.push(chunk.slice(start));
  }
  if (begun.length > 0) yield parseLine(begun.join(''), line + 1);
}

function parseLine(text: string, line: number): HistoryEvent {
  try {
    return toEvent(JSON.parse(text));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new BrokenHistoryError(`line ${line} holds no event: ${reason}`, { cause: error });
  }
}
