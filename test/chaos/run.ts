import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { until } from '../../deploy/local/until.js';
import { tellWhatStands } from './aftermath.js';
import { Caller } from './clients/caller.js';
import { HistoryLog } from './clients/history-log.js';
import { sweep } from './clients/sweep.js';
import { Traffic } from './clients/traffic.js';
import { Lending } from './monkey/lending.js';
import { Monkey } from './monkey/monkey.js';
import { Tally } from './monkey/tally.js';
import { PassersBy } from './passers-by.js';
import type { Plan } from './plan.js';
import { randomOf } from './random.js';
import { shortfalls } from './report/shortfalls.js';
import { Sampler } from './sampler.js';
import { openWorld, type World } from './world/world.js';

/** What is left of a run: its history, and what was counted beside it. */
export interface Run {
  readonly historyFile: string;
  readonly tally: Tally;
  readonly seconds: number;
}

const SAMPLE_EVERY_MS = 2_000;
const LOOK_EVERY_MS = 250;
/** For what was under way when the last fault ended. */
const CALM_MS = 2_000;

/** A run: quiet traffic, then faults, then quiet again, a last question about every key, and what stands in the tables. */
export async function run(plan: Plan, say: (line: string) => void): Promise<Run> {
  const began = performance.now();
  mkdirSync(plan.folder, { recursive: true });
  const log = new HistoryLog(join(plan.folder, 'history.jsonl'));
  const random = randomOf(plan.seed);
  const tally = new Tally();
  const world = await openWorld(
    (request) => log.tell({ kind: 'provider-call', atMs: log.nowMs, ...request }),
    plan.hasStandbys,
  );
  try {
    const caller = new Caller(`http://127.0.0.1:${world.clientWay.port}`, log, plan.clients * 4);
    const traffic = new Traffic(caller, {
      clients: plan.clients,
      pace: plan.pace,
      duplicates: plan.duplicates,
      random: random.fork(),
    });
    const passersBy = new PassersBy(caller, plan.passByEveryMs);
    const sampler = new Sampler(world, log, SAMPLE_EVERY_MS);
    const workshop = { world, traffic, caller, log, tally, lending: new Lending(world.instances) };
    const enoughTerminated = plan.form === 'gate' ? plan.least.terminated : Number.POSITIVE_INFINITY;
    const monkey = new Monkey(workshop, random.fork(), plan.rates, enoughTerminated);
    const progress = setInterval(() => say(progressOf(log, tally, traffic)), plan.tellEveryMs);
    try {
      traffic.start();
      await pause(plan.warmUpMs);
      passersBy.start();
      sampler.start();
      await pause(plan.baselineMs);
      say('the first fault');
      sampler.phase = 'faults';
      monkey.start();
      const isShown = (): boolean => plan.form === 'gate' && shortfalls(plan.least, tally).length === 0;
      for (const endMs = log.nowMs + plan.faultsMs; log.nowMs < endMs && !isShown();)
        await pause(LOOK_EVERY_MS);
      await monkey.stop();
      await mend(world);
      say('the last fault is over');
      await pause(CALM_MS);
      await Promise.all([traffic.stop(), passersBy.stop()]);
      say(`${traffic.wishes.length} keys are asked for once more`);
      let answered = await sweep(caller, traffic.wishes);
      // And again, while fewer requests than are to be checked have been sent.
      while (answered.length > 0 && log.requests < plan.least.requests)
        answered = await sweep(caller, answered);
      sampler.phase = 'end';
      await sampler.stop();
      await sampler.sample();
    } finally {
      clearInterval(progress);
    }
    await tellWhatStands(world.database, log);
    caller.close();
    return { historyFile: log.file, tally, seconds: (performance.now() - began) / 1_000 };
  } finally {
    await world.close();
    await log.close();
  }
}

/** Whole again, whatever a hand may have left. */
async function mend({
  instances,
  databaseWays,
  cacheWays,
  clientWay,
  redis,
  memcached,
}: World): Promise<void> {
  for (const way of [...databaseWays, ...Object.values(cacheWays), clientWay]) way.setFault();
  redis.resume();
  memcached.resume();
  for (const instance of instances) {
    instance.disarm();
    instance.signal('SIGCONT');
  }
  await until('all instances are up', () => instances.every(({ isUp }) => isUp), 60_000);
}

function progressOf(log: HistoryLog, tally: Tally, traffic: Traffic): string {
  const seconds = Math.round(log.nowMs / 1_000);
  return (
    `${seconds} s: ${log.requests} requests, ${traffic.wishes.length} keys, ${tally.sum('kill')} kills, ` +
    `${tally.sum('zombie')} zombies, ${tally.sum('lost COMMIT')} lost COMMIT answers, ` +
    `${tally.sum('terminated backend')} backends, ${tally.sum('database crash')} crashes`
  );
}
