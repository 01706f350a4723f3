import { replayStatusOf } from './answer.js';
import type { Answers } from './answers.js';
import { type Evidence, type RecordRow, shownRecord } from './evidence.js';
import { type Finding, finding, type Judge, KEPT, type RunFacts } from './judge.js';
import type { CheckOptions } from './options.js';
import { differences } from './p3-same-answer.js';
import { Shown } from './sightings.js';

/**
 * P10: a cache changes no answer. The table alone decides, so that what was answered has to be what stands in it when the run is over.
 *
 * - Every replay has the body of the record and the status that the library documents for its replay. A record that is missing, pending,
 *   released or a tombstone has nothing to replay.
 * - A first answer is what the record holds, where it holds one.
 * - A request with the payload of the outcome, sent after a client had that, is not turned away: not with 409, as if it were in flight
 *   (but see `inUseMs` and `inUseFaults`), nor with 422, as if it were another one, nor with the word of an attempt that ran again. 503 is right where nothing was looked up or the
 *   answer is not to be had, and the tombstone's 500.
 *
 * Where the answers of a key differ from each other, P3 says so, and the record is not held against each of them.
 */
export const recordDecides: Judge = {
  promise: 'P10',
  judge(evidence, options, facts) {
    const { turnedAway, outcome } = evidence;
    if (outcome === undefined) return 'untold';
    const refused = [turnedAway, inUseTooLate(evidence, options, facts)].flatMap((seen) =>
      seen
        ? finding(`${seen.who} got ${seen.first}, sent after the outcome had been answered`, seen.calls)
        : KEPT,
    );
    return differences(evidence, options).length > 0
      ? refused
      : [...unlikeRecord(evidence, options), ...refused];
  },
};

function inUseTooLate({ inUse }: Evidence, { inUseMs }: CheckOptions, facts: RunFacts): Shown | undefined {
  const late = inUse.filter(
    ({ sentMs, lateByMs }) => lateByMs >= inUseMs && !facts.inUse.contain(sentMs, sentMs),
  );
  const [first] = late;
  if (!first) return undefined;
  const seen = new Shown(first.shown);
  for (const { call } of late) seen.add(call);
  return seen;
}

function unlikeRecord({ ownAnswers, record }: Evidence, options: CheckOptions): readonly Finding[] {
  const unlike = ownAnswers.find((answers) => !isAsStored(answers, record, options));
  if (!unlike) return KEPT;
  const stored = record ? `the record is ${shownRecord(record)}` : 'there is no record';
  return finding(`${unlike.who} got ${unlike.first}, and ${stored}`, unlike.calls);
}

function isAsStored(
  answers: Answers,
  record: RecordRow | undefined,
  { replayStatus }: CheckOptions,
): boolean {
  const { replayed, status, body } = answers;
  const stored = record?.responseStatus ?? null;
  const hasAnswer = record !== undefined && stored !== null && record.body !== null;
  if (!hasAnswer) return !replayed;
  const expected = replayed ? replayStatusOf(stored, replayStatus) : stored;
  return status === expected && record.body === body;
}
