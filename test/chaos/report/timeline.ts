import type { Fault, HistoryEvent, Invoke, Sample } from '../history/event.js';
import { Latencies } from '../history/latencies.js';
import { type Ended, type Recovery, recoveriesOf } from './recovery.js';

/** What happened in one second of a run. */
export interface Second {
  readonly ok: number;
  readonly refused: number;
  readonly unknown: number;
}

/** What a history tells beside its verdict: how the run went. */
export interface Timeline {
  readonly seconds: readonly Second[];
  readonly faults: readonly Fault[];
  readonly recoveries: readonly Recovery[];
  /** 99th percentile of the bystander's answers from the first fault to the last one, whatever struck it, in milliseconds. */
  readonly bystanderFaultsP99Ms: number;
  /** Of the instance that is never killed, and of the database. */
  readonly samples: readonly Sample[];
  readonly outcomes: Readonly<Record<string, number>>;
}

type Sent = Pick<Invoke, 'mode' | 'isSweep' | 'directTo'> & { readonly sentMs: number };

/** Reads the history once. */
export async function timelineOf(events: AsyncIterable<HistoryEvent>): Promise<Timeline> {
  const seconds: { ok: number; refused: number; unknown: number }[] = [];
  const faults: Fault[] = [];
  const samples: Sample[] = [];
  const outcomes: Record<string, number> = {};
  const open = new Map<number, Sent>();
  const ended: Ended[] = [];
  const bystanders: { sentMs: number; tookMs: number }[] = [];
  for await (const event of events) {
    switch (event.kind) {
      case 'invoke': {
        const { call, atMs: sentMs, mode, isSweep, directTo } = event;
        open.set(call, { sentMs, mode, isSweep, ...(directTo === undefined ? {} : { directTo }) });
        break;
      }
      case 'ok':
      case 'refused':
      case 'unknown': {
        const call = open.get(event.call);
        if (call === undefined) break;
        open.delete(event.call);
        const { sentMs } = call;
        if (call.mode === 'bystander') {
          if (event.kind === 'ok') bystanders.push({ sentMs, tookMs: event.atMs - sentMs });
          break;
        }
        const second = (seconds[Math.floor(event.atMs / 1_000)] ??= { ok: 0, refused: 0, unknown: 0 });
        second[event.kind]++;
        const name =
          event.kind === 'refused' ? event.code : event.kind === 'ok' ? `ok ${event.status}` : 'unknown';
        outcomes[name] = (outcomes[name] ?? 0) + 1;
        // What was sent to one instance so that it dies says nothing of the others.
        if (call.isSweep || call.directTo !== undefined) break;
        const isAnswered = event.kind === 'ok' || (event.kind === 'refused' && event.status < 500);
        ended.push({ sentMs, isAnswered });
        break;
      }
      case 'fault':
        faults.push(event);
        break;
      case 'sample':
        samples.push(event);
        break;
      case 'effect':
      case 'record':
      case 'provider-call':
        break;
      default:
        event satisfies never;
    }
  }
  const firstFaultMs = faults.reduce((first, { atMs }) => Math.min(first, atMs), Number.POSITIVE_INFINITY);
  const lastFaultMs = faults.reduce((last, { untilMs }) => Math.max(last, untilMs), 0);
  const underFaults = new Latencies();
  for (const { sentMs, tookMs } of bystanders) {
    if (sentMs >= firstFaultMs && sentMs <= lastFaultMs) underFaults.add(tookMs);
  }
  ended.sort((a, b) => a.sentMs - b.sentMs);
  return {
    seconds: Array.from(seconds, (second) => second ?? { ok: 0, refused: 0, unknown: 0 }),
    faults,
    recoveries: recoveriesOf(faults, ended),
    bystanderFaultsP99Ms: underFaults.p99(),
    samples,
    outcomes,
  };
}
