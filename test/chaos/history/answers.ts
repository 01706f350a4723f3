import { copyOf, digestOf, partsOf } from './answer.js';
import type { Ok } from './event.js';
import { Sightings, withOne } from './sightings.js';

/** Final answers of one key that are the same in everything that is compared. */
export class Answers extends Sightings {
  constructor(
    readonly payload: string,
    readonly status: number,
    readonly replayed: boolean,
    /** Of the headers that a replay has to repeat, and of the body, which is what a record holds. */
    readonly head: string,
    readonly body: string,
  ) {
    super();
  }

  /** `200 (replayed) {"id":1}` */
  get first(): string {
    return shownAnswer(this);
  }
}

export const shownAnswer = ({
  status,
  replayed,
  body,
}: Pick<Answers, 'status' | 'replayed' | 'body'>): string =>
  `${status}${replayed ? ' (replayed)' : ''} ${body === '' ? '(no body)' : body}`;

/** Different answers that are kept of one key: with the first odd one it is a violation already. */
const MAX_KEPT = 16;

/**
 * The answers of one key with one more.
 *
 * @returns the same array when it knows such an answer.
 */
export function withAnswer(
  known: readonly Answers[],
  payload: string,
  { call, status, replayed, body: text }: Ok,
): readonly Answers[] {
  const parts = partsOf(text);
  const head = digestOf(parts.head);
  const body = digestOf(parts.body);
  const same = known.find(
    (answers) =>
      answers.payload === payload &&
      answers.status === status &&
      answers.replayed === replayed &&
      answers.head === head &&
      answers.body === body,
  );
  if (!same && known.length === MAX_KEPT) return known;
  // A replay shares the texts of what it replays.
  const like = known.find((answers) => answers.body === body && answers.head === head);
  const answers =
    same ?? new Answers(payload, status, replayed, like?.head ?? copyOf(head), like?.body ?? copyOf(body));
  answers.add(call);
  return same ? known : withOne(known, answers);
}
