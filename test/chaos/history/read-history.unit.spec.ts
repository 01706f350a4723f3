import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { checkHistory } from './checker.js';
import type { HistoryEvent } from './event.js';
import { history, wellUsed } from './history-builder.js';
import { parseHistory, readHistory } from './read-history.js';

const everyKind = history()
  .sample('baseline')
  .first(1)
  .send(2)
  .inUse(2)
  .send(3)
  .lost(3)
  .providerCall(1)
  .providerCall(1, { step: 'charge' })
  .fault('kill', 5, 10)
  .effect()
  .record()
  .unanswered('pending').events;

const textOf = (events: readonly HistoryEvent[]): string =>
  events.map((event) => `${JSON.stringify(event)}\n`).join('');

async function eventsOf(chunks: readonly string[]): Promise<HistoryEvent[]> {
  const events: HistoryEvent[] = [];
  for await (const event of parseHistory(chunks)) events.push(event);
  return events;
}

describe('reading a history', () => {
  it('reads events of every kind as they were written', async () => {
    expect(await eventsOf([textOf(everyKind)])).toEqual(everyKind);
  });

  it('reads them from pieces of any size', async () => {
    const text = textOf(everyKind);
    for (const size of [1, 2, 7, 100]) {
      const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, index) =>
        text.slice(index * size, (index + 1) * size),
      );
      expect(await eventsOf(pieces)).toEqual(everyKind);
    }
  });

  it('reads a last line without its end', async () => {
    expect(await eventsOf([textOf(everyKind).trimEnd()])).toEqual(everyKind);
  });

  it('takes no character of a string for the end of a line', async () => {
    const { events } = history().send(1).ok(1, 201, 'a\u2028b\u2029c\r\n\u0085d');

    expect(await eventsOf([textOf(events)])).toEqual(events);
  });

  it('reads a file, and the checker judges what it has read', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'history-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const file = join(folder, 'history.jsonl');
    const accents = wellUsed()
      .on({ scope: 'é'.repeat(70_000) })
      .first(2)
      .swept(10)
      .effect()
      .record().events;
    await writeFile(file, textOf(accents));

    const { total, checked } = await checkHistory(readHistory(file));

    expect({ total, events: checked.events }).toEqual({ total: 0, events: 12 });
  });

  const sound = JSON.stringify(everyKind[1]);
  const broken: readonly [problem: string, line: string, message: string][] = [
    ['is cut', sound.slice(0, -5), 'line 3 holds no event: '],
    ['is empty', '', 'line 3 holds no event: '],
    ['is no object', '7', 'line 3 holds no event: it is no object'],
    ['has no kind', '{}', 'line 3 holds no event: there is no kind undefined'],
    ['is of another kind', '{"kind":"toString"}', 'line 3 holds no event: there is no kind "toString"'],
    [
      'lacks a field',
      sound.replace('"isSweep":false', '"swept":false'),
      'line 3 holds no event: isSweep of invoke is undefined, and has to be a boolean',
    ],
    [
      'has a field of another type',
      sound.replace('"call":1', '"call":"1"'),
      'line 3 holds no event: call of invoke is "1", and has to be a count',
    ],
    [
      'has a value that there is not',
      sound.replace('"transaction"', '"saga"'),
      'line 3 holds no event: mode of invoke is "saga", and has to be one of transaction, lease, bystander',
    ],
    [
      'has a time that is none',
      sound.replace(/"atMs":\d+/, '"atMs":-1'),
      'line 3 holds no event: atMs of invoke is -1, and has to be a time',
    ],
  ];

  it.each(broken)('names the line when one %s', async (_, line, message) => {
    await expect(eventsOf([`${sound}\n${sound}\n${line}\n${sound}\n`])).rejects.toMatchObject({
      name: 'BrokenHistoryError',
      message: expect.stringContaining(message),
    });
  });
});
