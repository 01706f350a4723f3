import type { Sample } from './event.js';
import type { CheckOptions } from './options.js';
import { Slope } from './slope.js';
import { BrokenHistoryError, type Verdicts } from './verdict.js';

/**
 * P9: what a run has used it gives back. In the last sample of the end no connection is idle in a transaction, there are no more
 * connections of the pool and no more timers than there were at most in the baseline, and no expired record is left to the reaper.
 * Resident memory does not grow with requests: see `residentBytesPer1000Requests`. Samples of the baseline are left out there, since a
 * process that warms up grows.
 */
export class Samples {
  count = 0;
  #poolConnections = 0;
  #timers = 0;
  #hasBaseline = false;
  #end: Sample | undefined;
  readonly #resident = new Slope();

  /** @param requests how many were sent before it. */
  see(sample: Sample, requests: number): void {
    this.count += 1;
    if (sample.phase === 'baseline') {
      this.#hasBaseline = true;
      this.#poolConnections = Math.max(this.#poolConnections, sample.poolConnections);
      this.#timers = Math.max(this.#timers, sample.timers);
      return;
    }
    if (sample.phase === 'end') this.#end = sample;
    this.#resident.add(requests / 1_000, sample.residentBytes);
  }

  /** @throws BrokenHistoryError when there are samples, but none of the baseline or none of the end. */
  judge(options: CheckOptions, verdicts: Verdicts): void {
    if (this.count === 0) return;
    if (!this.#hasBaseline) throw new BrokenHistoryError('there are samples, and none of the baseline');
    if (!this.#end) throw new BrokenHistoryError('there are samples, and none of the end');
    for (let sample = 0; sample < this.count; sample++) verdicts.check('P9');
    for (const message of [...this.#leftAt(this.#end, options), ...this.#growth(options)]) {
      verdicts.add({ promise: 'P9', calls: [], message });
    }
  }

  #leftAt(end: Sample, { poolSlack, timerSlack, expiredAtEnd }: CheckOptions): readonly string[] {
    const left = (what: string, found: number, allowed: number): string[] =>
      found > allowed ? [`${found} ${what} at the end, where ${allowed} may be`] : [];
    return [
      ...left('connections idle in a transaction', end.idleInTransaction, 0),
      ...left('connections of the pool', end.poolConnections, this.#poolConnections + poolSlack),
      ...left('timers', end.timers, this.#timers + timerSlack),
      ...left('expired records', end.expiredRecords, expiredAtEnd),
    ];
  }

  #growth({ residentBytesPer1000Requests: allowed }: CheckOptions): readonly string[] {
    const grown = this.#resident.value();
    if (grown === undefined || grown <= allowed) return [];
    return [`resident memory grows by ${Math.round(grown)} bytes per 1000 requests; ${allowed} are allowed`];
  }
}
