import { replayStatusOf } from './answer.js';
import type { Answers } from './answers.js';
import type { Evidence } from './evidence.js';
import { type Finding, finding, type Judge } from './judge.js';
import type { CheckOptions } from './options.js';
import { listed } from './sightings.js';

/**
 * P3: one answer per key. Of all final answers to its payload
 *
 * - at most one is a first execution, that is without the marker `Idempotent-Replayed: true`, and it was not sent after a final answer had
 *   come to a client. It may come later than a replay: the first caller's connection may be slow, or its process was frozen;
 * - every other one is a replay of it: the status that the library documents for a replay, and the same bytes;
 * - when the first answer was lost, all replays are the same, and have a status that a replay can have.
 *
 * Answers to another payload are left to P5.
 */
export const sameAnswer: Judge = {
  promise: 'P3',
  judge(evidence, options) {
    if (evidence.outcome === undefined) return 'untold';
    return [...firstExecutions(evidence), ...differences(evidence, options)];
  },
};

function firstExecutions({ ranAgain, ownAnswers }: Evidence): readonly Finding[] {
  if (ranAgain) {
    const what = `${ranAgain.who} got ${ranAgain.first} as a first execution`;
    return finding(`${what}, sent after the outcome had been answered`, ranAgain.calls);
  }
  const firsts = ownAnswers.filter(({ replayed }) => !replayed);
  const count = firsts.reduce((sum, answers) => sum + answers.count, 0);
  if (count < 2) return [];
  const calls = firsts.flatMap((answers) => answers.calls);
  return finding(`${count} answers without the marker of a replay: calls ${listed(calls)}`, calls);
}

/** Where the answers of a key are not one answer: empty when they are. */
export function differences(
  { ownAnswers }: Evidence,
  { replayStatus }: Pick<CheckOptions, 'replayStatus'>,
): readonly Finding[] {
  const reference = ownAnswers.find(({ replayed }) => !replayed) ?? ownAnswers[0];
  if (!reference) return [];
  const asReplay = replayStatusOf(reference.status, replayStatus);
  for (const answers of ownAnswers) {
    const difference = differenceOf(answers, reference, asReplay);
    if (difference === undefined) continue;
    if (answers === reference)
      return finding(`${difference}: ${answers.who} got ${answers.first}`, answers.calls);
    const than = `while ${reference.who} got ${reference.first}`;
    return finding(`${difference}: ${answers.who} got ${answers.first}, ${than}`, [
      ...reference.calls,
      ...answers.calls,
    ]);
  }
  return [];
}

function differenceOf(answers: Answers, reference: Answers, asReplay: number): string | undefined {
  if (answers.body !== reference.body) return 'another body';
  if (answers.head !== reference.head)
    return `other headers (${oneLine(answers.head)} for ${oneLine(reference.head)})`;
  const expected = answers.replayed ? asReplay : reference.status;
  return answers.status === expected ? undefined : `a status other than ${expected}`;
}

const oneLine = (head: string): string =>
  head.trim() === '' ? 'none' : `"${head.trim().replaceAll('\n', ', ')}"`;
