import type { Fault, HistoryEvent } from '../history/event.js';
import { Latencies } from '../history/latencies.js';

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
  /** From the end of each crash of the database until 99 of 100 requests are answered by the application again, in milliseconds. */
  readonly recoveriesMs: readonly number[];
  /** 99th percentile of the bystander's answers, in milliseconds. */
  readonly bystanderP99Ms: { readonly baseline: number; readonly faults: number };
  /** Of the instance that is never killed, in bytes, by milliseconds. */
  readonly resident: readonly { readonly atMs: number; readonly bytes: number }[];
  readonly outcomes: Readonly<Record<string, number>>;
}

interface Ended {
  readonly sentMs: number;
  readonly isAnswered: boolean;
}

const WINDOW_MS = 500;
const ANSWERED_SHARE = 0.99;

/** Reads the history once. */
export async function timelineOf(events: AsyncIterable<HistoryEvent>): Promise<Timeline> {
  const seconds: { ok: number; refused: number; unknown: number }[] = [];
  const faults: Fault[] = [];
  const resident: { atMs: number; bytes: number }[] = [];
  const outcomes: Record<string, number> = {};
  const open = new Map<number, { sentMs: number; isBystander: boolean }>();
  const ended: Ended[] = [];
  const bystanders: { sentMs: number; tookMs: number }[] = [];
  for await (const event of events) {
    switch (event.kind) {
      case 'invoke':
        open.set(event.call, { sentMs: event.atMs, isBystander: event.mode === 'bystander' });
        break;
      case 'ok':
      case 'refused':
      case 'unknown': {
        const call = open.get(event.call);
        if (call === undefined) break;
        open.delete(event.call);
        if (call.isBystander) {
          if (event.kind === 'ok') bystanders.push({ sentMs: call.sentMs, tookMs: event.atMs - call.sentMs });
          break;
        }
        const second = (seconds[Math.floor(event.atMs / 1_000)] ??= { ok: 0, refused: 0, unknown: 0 });
        second[event.kind]++;
        const name =
          event.kind === 'refused' ? event.code : event.kind === 'ok' ? `ok ${event.status}` : 'unknown';
        outcomes[name] = (outcomes[name] ?? 0) + 1;
        const isAnswered = event.kind === 'ok' || (event.kind === 'refused' && event.status < 500);
        ended.push({ sentMs: call.sentMs, isAnswered });
        break;
      }
      case 'fault':
        faults.push(event);
        break;
      case 'sample':
        resident.push({ atMs: event.atMs, bytes: event.residentBytes });
        break;
      case 'effect':
      case 'record':
      case 'provider-call':
        break;
      default:
        event satisfies never;
    }
  }
  const firstFaultMs = Math.min(...faults.map(({ atMs }) => atMs));
  const [before, during] = [new Latencies(), new Latencies()];
  for (const { sentMs, tookMs } of bystanders) (sentMs < firstFaultMs ? before : during).add(tookMs);
  ended.sort((a, b) => a.sentMs - b.sentMs);
  const crashes = faults.filter(({ name }) => name === 'crash');
  return {
    seconds: Array.from(seconds, (second) => second ?? { ok: 0, refused: 0, unknown: 0 }),
    faults,
    recoveriesMs: crashes.flatMap(({ untilMs }) => recoveryAfter(untilMs, ended)),
    bystanderP99Ms: { baseline: before.p99(), faults: during.p99() },
    resident,
    outcomes,
  };
}

/** The first moment from which a window of requests is answered again; none when the run ends before. */
function recoveryAfter(untilMs: number, ended: readonly Ended[]): readonly number[] {
  const after = ended.filter(({ sentMs }) => sentMs >= untilMs && sentMs < untilMs + 60_000);
  let last = 0;
  let answered = 0;
  for (let first = 0; first < after.length; first++) {
    const from = (after[first] as Ended).sentMs;
    while (last < after.length && (after[last] as Ended).sentMs < from + WINDOW_MS) {
      if ((after[last] as Ended).isAnswered) answered++;
      last++;
    }
    if (answered >= ANSWERED_SHARE * (last - first)) return [from - untilMs];
    if ((after[first] as Ended).isAnswered) answered--;
  }
  return [];
}
