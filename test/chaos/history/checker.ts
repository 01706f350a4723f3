import { digestOf, isSuccess } from './answer.js';
import { endProtected, shownEnd } from './call-ends.js';
import type { Fault, HistoryEvent, Invoke, Ok, Refused, Subject, Unknown } from './event.js';
import { Evidence } from './evidence.js';
import type { Judge, RunFacts } from './judge.js';
import { OpenCalls } from './open-calls.js';
import { type CheckOptions, DEFAULT_CHECK_OPTIONS, isNamed } from './options.js';
import { oneEffect } from './p1-one-effect.js';
import { recordDecides } from './p10-record-decides.js';
import { atomic } from './p2-atomic.js';
import { sameAnswer } from './p3-same-answer.js';
import { neverWedged } from './p4-never-wedged.js';
import { onePayload } from './p5-payload.js';
import { isolation, lookForForeign } from './p6-isolation.js';
import { DownstreamCalls } from './p7-downstream.js';
import { Bystanders } from './p8-bystanders.js';
import { Samples } from './p9-bounded.js';
import { nameOf } from './subject-name.js';
import { BrokenHistoryError, type HistoryVerdict, Verdicts } from './verdict.js';
import { Windows } from './windows.js';

/** Those that are asked of one key at a time, when the history is at its end. */
const JUDGES: readonly Judge[] = [oneEffect, atomic, sameAnswer, neverWedged, onePayload, recordDecides];

/**
 * Holds a history against the promises P1 to P10, in one pass and in a time that grows with its length alone. What is kept is one piece of
 * evidence for each key, whose size does not depend on how often it was used or how large its bodies are, two numbers for each
 * bystander call, and the faults.
 *
 * @param events in the order of the file. Effects, records, faults and provider calls may stand anywhere in it.
 * @throws BrokenHistoryError when the history cannot be right, or holds no request of a protected route.
 */
export async function checkHistory(
  events: AsyncIterable<HistoryEvent> | Iterable<HistoryEvent>,
  options: Partial<CheckOptions> = {},
): Promise<HistoryVerdict> {
  const checker = new Checker({ ...DEFAULT_CHECK_OPTIONS, ...options });
  for await (const event of events) checker.see(event);
  return checker.close();
}

class Checker {
  readonly #verdicts: Verdicts;
  readonly #subjects = new Map<string, Evidence>();
  readonly #calls = new OpenCalls();
  readonly #downstream: DownstreamCalls;
  readonly #bystanders = new Bystanders();
  readonly #samples = new Samples();
  readonly #faults: Fault[] = [];
  readonly #seen = { events: 0, requests: 0, effects: 0, records: 0, providerCalls: 0 };
  #atMs = 0;

  constructor(private readonly options: CheckOptions) {
    this.#verdicts = new Verdicts(options.maxListed);
    this.#downstream = new DownstreamCalls(this.#verdicts);
  }

  see(event: HistoryEvent): void {
    this.#seen.events += 1;
    switch (event.kind) {
      case 'invoke':
        this.#advance(event.atMs);
        return this.#invoked(event);
      case 'ok':
      case 'refused':
      case 'unknown':
        this.#advance(event.atMs);
        return this.#ended(event);
      case 'sample':
        this.#advance(event.atMs);
        return this.#samples.see(event, this.#seen.requests);
      case 'effect':
        this.#seen.effects += 1;
        return this.#evidenceOf(event).tookEffect(event);
      case 'record': {
        this.#seen.records += 1;
        const evidence = this.#evidenceOf(event);
        evidence.stored(event);
        const { responseBody } = event;
        if (responseBody !== null)
          lookForForeign(evidence, event.scope, responseBody, () => digestOf(responseBody));
        return;
      }
      case 'provider-call':
        this.#seen.providerCalls += 1;
        return this.#downstream.see(event, this.#evidenceOf(event));
      case 'fault':
        return this.#broke(event);
    }
  }

  close(): HistoryVerdict {
    if (this.#seen.events === 0) throw new BrokenHistoryError('the history is empty');
    this.#calls.close();
    if (this.#seen.requests === 0) throw new BrokenHistoryError('no request of a protected route is in it');
    const facts: RunFacts = {
      faultsOverMs: this.#faults.reduce((last, { untilMs }) => Math.max(last, untilMs), 0),
      leftToPerson: this.#downstream.leftToPerson,
      inUse: this.#inUse(),
    };
    let subjects = 0;
    for (const evidence of this.#subjects.values()) {
      this.#ask(isolation, evidence, facts);
      if (evidence.mode === 'bystander') continue;
      if (evidence.mode !== undefined) subjects += 1;
      for (const judge of JUDGES) this.#ask(judge, evidence, facts);
      this.#downstream.judgeUnasked(evidence);
    }
    this.#downstream.judge(this.#faults, this.options);
    const bystanderP99Ms = this.#bystanders.judge(this.#faults, this.options, this.#verdicts);
    this.#samples.judge(this.options, this.#verdicts);
    const bystanders = this.#bystanders.count;
    const samples = this.#samples.count;
    const checked = { ...this.#seen, subjects, bystanders, samples, faults: this.#faults.length };
    return this.#verdicts.close(checked, bystanderP99Ms);
  }

  #invoked({ call, atMs, mode, payload, isSweep, scope, operation, key }: Invoke): void {
    const subject = { scope, operation, key };
    const evidence = this.#evidenceOf(subject);
    if (evidence.mode !== undefined && evidence.mode !== mode) {
      const name = `key "${key}" of "${scope}"`;
      throw new BrokenHistoryError(
        `${name} is in mode ${evidence.mode}, and in mode ${mode} in call ${call}`,
      );
    }
    evidence.usedIn(mode);
    this.#calls.begin({
      call,
      atMs,
      evidence,
      scope,
      payload: evidence.asked(payload),
      isSweep,
      isAfterOutcome: evidence.outcome !== undefined,
      ...(mode === 'bystander' ? { bystander: this.#bystanders.begin(atMs) } : {}),
    });
    if (mode !== 'bystander') this.#seen.requests += 1;
  }

  #ended(end: Ok | Refused | Unknown): void {
    const call = this.#calls.end(end.call);
    const { evidence } = call;
    const shown = (): string => shownEnd(end);
    if (end.kind !== 'unknown') lookForForeign(evidence, call.scope, end.body, shown, end.call);
    if (call.bystander !== undefined) {
      const isWell = end.kind === 'ok' && isSuccess(end.status);
      return this.#bystanders.end(
        call.bystander,
        end.atMs,
        isWell ? undefined : { call: end.call, shown: shown() },
      );
    }
    endProtected(call, end, shown);
  }

  /** It may be written when it begins or when it is over. */
  #broke(fault: Fault): void {
    const { name, atMs, untilMs } = fault;
    if (untilMs < atMs) {
      throw new BrokenHistoryError(`fault ${name} begins at ${atMs} ms and is over at ${untilMs} ms`);
    }
    this.#faults.push(fault);
  }

  #advance(atMs: number): void {
    if (atMs < this.#atMs) {
      throw new BrokenHistoryError(
        `event ${this.#seen.events} goes back in time, from ${this.#atMs} ms to ${atMs} ms`,
      );
    }
    this.#atMs = atMs;
  }

  #inUse(): Windows {
    const { inUseFaults, inUseSettleMs } = this.options;
    return new Windows(
      this.#faults
        .filter((fault) => isNamed(inUseFaults, fault))
        .map(({ atMs, untilMs }) => ({ from: atMs, to: untilMs + inUseSettleMs })),
    );
  }

  #ask({ promise, judge }: Judge, evidence: Evidence, facts: RunFacts): void {
    const findings = judge(evidence, this.options, facts);
    if (findings === 'untold') return;
    this.#verdicts.check(promise);
    for (const { message, calls } of findings) {
      this.#verdicts.add({ promise, subject: evidence.subject, calls, message });
    }
  }

  #evidenceOf(subject: Subject): Evidence {
    const name = nameOf(subject);
    let evidence = this.#subjects.get(name);
    if (!evidence) this.#subjects.set(name, (evidence = new Evidence(name)));
    return evidence;
  }
}
