import type { Fault, ProviderCall } from './event.js';
import type { Evidence } from './evidence.js';
import { isNamed, type CheckOptions } from './options.js';
import { listed } from './sightings.js';
import { BrokenHistoryError, type Verdicts } from './verdict.js';
import { Windows } from './windows.js';

/** What the provider tells of one key. */
export interface ProviderLog {
  /** The attempt that called first, and the highest one that has called, with its last call. */
  readonly first: number;
  highest: number;
  highestAtMs: number;
  /** By step: its downstream key. */
  readonly keys: Map<string, string>;
  /** What has been reported of the key already. */
  readonly told: Set<string>;
}

interface LateCall {
  readonly evidence: Evidence;
  readonly attempt: number;
  readonly atMs: number;
  readonly after: { readonly attempt: number; readonly atMs: number };
}

/**
 * P7: an attempt that may have had an effect is run again only as the developer chose, and with the same downstream key.
 *
 * - One step of one key has one downstream key in all attempts, and no other step or key has it.
 * - Under `onAbandoned: 'fail'` only one attempt ever calls. It may call more than once.
 * - The attempts of a key call in their order. A call of an old attempt that was held up on its way, or in a frozen process, may come
 *   late: nobody can stop it (docs/lease-mode.md, "A frozen process"). It is right only when one of the `holdUpFaults` was on from before
 *   the newer attempt's call until at most `holdUpSettleMs` before its own.
 * - Nobody calls for a key that no request used.
 *
 * The provider's calls have to be in the order of their own times, and may stand anywhere in the history.
 */
export class DownstreamCalls {
  /** Operations whose route is never run twice by itself. */
  readonly leftToPerson = new Set<string>();
  readonly #users = new Map<string, { readonly evidence: Evidence; readonly step: string }>();
  readonly #late: LateCall[] = [];
  #atMs = 0;

  constructor(private readonly verdicts: Verdicts) {}

  see(call: ProviderCall, evidence: Evidence): void {
    const { atMs, attempt, onAbandoned } = call;
    if (atMs < this.#atMs) {
      throw new BrokenHistoryError(`a provider call at ${atMs} ms comes after one at ${this.#atMs} ms`);
    }
    this.#atMs = atMs;
    this.verdicts.check('P7');
    if (onAbandoned === 'fail') this.leftToPerson.add(call.operation);
    const log = (evidence.provider ??= {
      first: attempt,
      highest: attempt,
      highestAtMs: atMs,
      keys: new Map(),
      told: new Set(),
    });
    this.#seeKey(call, evidence, log);
    if (onAbandoned === 'fail' && attempt !== log.first) {
      this.#tell(
        evidence,
        `attempt ${attempt} called after attempt ${log.first} had, under onAbandoned 'fail'`,
      );
    } else if (attempt < log.highest) {
      this.#late.push({ evidence, attempt, atMs, after: { attempt: log.highest, atMs: log.highestAtMs } });
    }
    if (attempt >= log.highest) Object.assign(log, { highest: attempt, highestAtMs: atMs });
  }

  judge(faults: readonly Fault[], { holdUpFaults, holdUpSettleMs }: CheckOptions): void {
    const heldUp = new Windows(
      faults
        .filter((fault) => isNamed(holdUpFaults, fault))
        .map(({ atMs, untilMs }) => ({ from: atMs, to: untilMs + holdUpSettleMs })),
    );
    for (const { evidence, attempt, atMs, after } of this.#late) {
      if (heldUp.contain(after.atMs, atMs)) continue;
      this.#tell(evidence, `attempt ${attempt} called after attempt ${after.attempt} had`);
    }
  }

  /** For a key that turns out to have no request. */
  judgeUnasked(evidence: Evidence): void {
    if (evidence.provider && evidence.mode === undefined) {
      this.#tell(evidence, `attempt ${evidence.provider.first} called for a key that no request used`);
    }
  }

  #seeKey({ downstreamKey, attempt, step = '' }: ProviderCall, evidence: Evidence, log: ProviderLog): void {
    const user = this.#users.get(downstreamKey);
    if (!user) this.#users.set(downstreamKey, { evidence, step });
    else if (user.evidence !== evidence) {
      const { scope, key } = user.evidence.subject;
      this.#tell(evidence, `downstream key ${downstreamKey} is that of key "${key}" of "${scope}", too`);
    } else if (user.step !== step) {
      this.#tell(
        evidence,
        `downstream key ${downstreamKey} is used by ${listed([user.step, step].map(named))}`,
      );
    }
    const known = log.keys.get(step);
    if (known === undefined) log.keys.set(step, downstreamKey);
    else if (known !== downstreamKey) {
      this.#tell(
        evidence,
        `${named(step)} has 2 downstream keys: ${known}, and ${downstreamKey} in attempt ${attempt}`,
      );
    }
  }

  /** The same thing once for each key. */
  #tell({ subject, provider }: Evidence, message: string): void {
    if (provider?.told.has(message)) return;
    provider?.told.add(message);
    this.verdicts.add({ promise: 'P7', subject, calls: [], message });
  }
}

const named = (step: string): string => (step === '' ? 'the step' : `step "${step}"`);
