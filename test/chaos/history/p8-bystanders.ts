import type { Fault } from './event.js';
import { Latencies } from './latencies.js';
import { isNamed, type CheckOptions } from './options.js';
import { Shown } from './sightings.js';
import type { HistoryVerdict, Verdicts } from './verdict.js';
import { Windows } from './windows.js';

const FAILED = -1;
/** The 99th percentile of fewer calls is the slowest of them, whatever it was that held it up. */
const LEAST_FOR_P99 = 100;

/** Before the first fault, away from any behind that, and during faults that do not strike the bystander itself. */
type Phase = 'before' | 'between' | 'during';

/**
 * P8: routes without protection do not suffer. Of their calls that overlap a fault, or `bystanderSettleMs` behind it, the p99 stays under
 * `bystanderFactor` times that of the calls which ended before the first fault, or with `bystanderBetween` of all that are away from any,
 * or under the floor, and the share of answers is `bystanderSuccess` at least. A success is a final answer under 400. Left out are calls that
 * overlap one of the `exemptFaults`, which hit the bystander itself. Calls that failed have no latency, and that of fewer than a
 * hundred calls is not judged: all that is asked of them is that they are answered.
 *
 * Faults may be written when they begin or when they are over, so that every call is kept until the end: two numbers.
 */
export class Bystanders {
  #begins = new Float64Array(1024);
  #tookMs = new Float64Array(1024);
  #count = 0;
  /** Few on a good day: by place, the call's number and how it ended. */
  readonly #failures = new Map<number, { readonly call: number; readonly shown: string }>();

  /** @returns the call's place, to name it when it ends. */
  begin(atMs: number): number {
    if (this.#count === this.#begins.length) {
      this.#begins = grown(this.#begins);
      this.#tookMs = grown(this.#tookMs);
    }
    this.#begins[this.#count] = atMs;
    return this.#count++;
  }

  /** @param failure how it ended, where it was not answered well. */
  end(place: number, atMs: number, failure?: { readonly call: number; readonly shown: string }): void {
    this.#tookMs[place] = atMs - (this.#begins[place] ?? atMs);
    if (failure) this.#failures.set(place, { ...failure });
  }

  get count(): number {
    return this.#count;
  }

  judge(
    faults: readonly Fault[],
    options: CheckOptions,
    verdicts: Verdicts,
  ): HistoryVerdict['bystanderP99Ms'] {
    const before = new Latencies();
    const away = new Latencies();
    const during = new Latencies();
    let failed: Shown | undefined;
    for (const { phase, place, tookMs } of this.#inPhases(faults, options)) {
      if (phase === 'during') {
        verdicts.check('P8');
        const failure = this.#failures.get(place);
        if (failure) (failed ??= new Shown(failure.shown)).add(failure.call);
      }
      if (tookMs === FAILED) continue;
      if (phase === 'before') before.add(tookMs);
      (phase === 'during' ? during : away).add(tookMs);
    }
    judgeLatency({ before, away, during }, options, verdicts);
    if (failed) judgeFailures(failed, during.count + failed.count, options, verdicts);
    return { before: before.p99(), away: away.p99(), during: during.p99() };
  }

  *#inPhases(
    faults: readonly Fault[],
    { bystanderSettleMs, exemptFaults, exemptSettleMs }: CheckOptions,
  ): Generator<{ phase: Phase; place: number; tookMs: number }> {
    const firstMs = faults.reduce((first, { atMs }) => Math.min(first, atMs), Infinity);
    const windows = (of: readonly Fault[], settleMs: number): Windows =>
      new Windows(of.map(({ atMs, untilMs }) => ({ from: atMs, to: untilMs + settleMs })));
    const all = windows(faults, bystanderSettleMs);
    const near = windows(faults, Math.max(bystanderSettleMs, exemptSettleMs));
    const exempt = windows(
      faults.filter((fault) => isNamed(exemptFaults, fault)),
      exemptSettleMs,
    );
    for (let place = 0; place < this.#count; place++) {
      const from = this.#begins[place] ?? 0;
      const to = from + (this.#tookMs[place] ?? 0);
      const tookMs = this.#failures.has(place) ? FAILED : to - from;
      if (to < firstMs) yield { phase: 'before', place, tookMs };
      else if (!near.overlap(from, to)) yield { phase: 'between', place, tookMs };
      else if (all.overlap(from, to) && !exempt.overlap(from, to)) yield { phase: 'during', place, tookMs };
    }
  }
}

interface Compared {
  readonly before: Latencies;
  /** Those before among them. */
  readonly away: Latencies;
  readonly during: Latencies;
}

function judgeLatency(
  { before, away, during }: Compared,
  { bystanderBetween, bystanderDriftFactor, bystanderFactor, bystanderFloorMs }: CheckOptions,
  verdicts: Verdicts,
): void {
  const hold = (judged: Latencies, when: string, control: Latencies, of: string, factor: number): void => {
    if (control.count < LEAST_FOR_P99 || judged.count < LEAST_FOR_P99) return;
    const allowed = Math.max(factor * control.p99(), bystanderFloorMs);
    if (judged.p99() < allowed) return;
    const message =
      `p99 of ${judged.count} bystander calls ${when}: ${judged.p99()} ms, ` +
      `${of} ${control.p99()} ms; it has to be under ${allowed} ms`;
    verdicts.add({ promise: 'P8', calls: [], message });
  };
  if (!bystanderBetween) return hold(during, 'during faults', before, 'before them', bystanderFactor);
  hold(during, 'during faults', away, 'away from them', bystanderFactor);
  hold(away, 'away from faults', before, 'before the first', bystanderDriftFactor);
}

function judgeFailures(
  failed: Shown,
  total: number,
  { bystanderSuccess }: CheckOptions,
  verdicts: Verdicts,
): void {
  if (1 - failed.count / total >= bystanderSuccess) return;
  const message =
    `${failed.count} of ${total} bystander calls during faults failed, ` +
    `${bystanderSuccess * 100} % have to be answered; the first one: ${failed.first}`;
  verdicts.add({ promise: 'P8', calls: failed.calls, message });
}

function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}
