import type { Evidence } from './evidence.js';
import { type Finding, finding, type Judge, KEPT } from './judge.js';
import { listed } from './sightings.js';

/**
 * P5: a key stands for one payload, that of its row, or where there is none that of its first final answer.
 *
 * - A row has a payload that a call asked for, and all rows of a key have the same.
 * - No other payload gets a final answer, neither one of its own nor the stored one.
 * - What is sent with another payload after a client has the outcome gets 422 `IDEMPOTENCY_KEY_REUSED`. 503 is right as well where nothing
 *   was looked up, and so is no answer. Before that nobody can tell which of two payloads came first, and 409 is right, too.
 */
export const onePayload: Judge = {
  promise: 'P5',
  judge(evidence) {
    if (evidence.effectCount === 0 && evidence.outcome === undefined) return 'untold';
    const rows = wrongRows(evidence);
    return rows.length > 0 ? rows : [...wrongAnswers(evidence), ...wrongRefusals(evidence)];
  },
};

function wrongRows(evidence: Evidence): readonly Finding[] {
  const { effects } = evidence;
  const unasked = effects.find(({ payload }) => !evidence.wasAsked(payload));
  if (unasked) {
    return finding(`a row of attempt ${unasked.attempt} for "${unasked.payload}", which no call asked for`);
  }
  const different = [...new Set(effects.map(({ payload }) => `"${payload}"`))];
  return different.length > 1 ? finding(`rows for ${different.length} payloads: ${listed(different)}`) : KEPT;
}

function wrongAnswers({ answers, ownPayload }: Evidence): readonly Finding[] {
  return answers
    .filter(({ payload }) => payload !== ownPayload)
    .map((odd) => ({
      message: `${odd.who} asked for "${odd.payload}" and got ${odd.first}, and the key stands for "${ownPayload}"`,
      calls: odd.calls,
    }));
}

function wrongRefusals({ notTaken }: Evidence): readonly Finding[] {
  if (!notTaken) return KEPT;
  return finding(
    `${notTaken.who} with another payload got ${notTaken.first} after the outcome`,
    notTaken.calls,
  );
}
