/** A request that the provider does not work on; the message tells the caller what was wrong with it. */
export class Refusal extends Error {
  override readonly name = 'Refusal';

  constructor(
    readonly status: number,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

const MAX_QUOTED = 80;

/** What came in, as a refusal quotes it: JSON, cut short. */
export function quote(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text;
}

/**
 * The members of a JSON object.
 *
 * @throws Refusal for any other value.
 */
export function membersOf(body: unknown): Record<string, unknown> {
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return { ...body };
  throw new Refusal(400, `The body must be a JSON object; received ${quote(body)}.`);
}

/**
 * Refuses members with all that is wrong with them.
 *
 * @param rules what is wrong with a member of that name, `undefined` when nothing is
 * @throws Refusal
 */
export function checkMembers(
  members: Record<string, unknown>,
  rules: ReadonlyMap<string, (value: unknown) => string | undefined>,
): void {
  const problems = Object.entries(members).flatMap(([name, value]) => {
    const rule = rules.get(name);
    const must = rule ? rule(value) : `is unknown; known are ${[...rules.keys()].join(', ')}`;
    return must === undefined ? [] : [`${quote(name)} ${must}; received ${quote(value)}.`];
  });
  if (problems.length > 0) throw new Refusal(400, problems.join(' '));
}
