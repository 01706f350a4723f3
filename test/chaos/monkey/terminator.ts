import type { Random } from '../random.js';
import type { Hand, Workshop } from './hand.js';

/** Those at work first: that they are idle is what they are most of the time. $1 client ports, $2 how many */
const TERMINATE = `
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))::int AS terminated
  FROM (SELECT pid FROM pg_stat_activity
         WHERE client_port = ANY($1::int[])
         ORDER BY state = 'idle', random()
         LIMIT $2) AS struck`;

const AT_MOST = 8;
/** An instance that is starting is left alone: it would end and be started again, which tries nothing. What has just started is slow to connect. */
const STEADY_MS = 1_000;

/** Ends connections from the server's side. */
export class Terminator implements Hand {
  readonly name = 'terminate';

  /** @param enough when so many are terminated it rests: they are quick to terminate, and each takes what a kill waits for, the processor. */
  constructor(private readonly enough: number) {}

  async strike({ world, log, tally }: Workshop, random: Random): Promise<void> {
    if (tally.sum('terminated backend') >= this.enough) return;
    const atMs = log.nowMs;
    const ports = world.databaseWays.flatMap((way, index) =>
      (world.instances[index]?.listensForMs ?? 0) > STEADY_MS ? way.serverSidePorts() : [],
    );
    const rows = await world.database
      .rows<{ terminated: number }>(TERMINATE, [ports, random.int(1, AT_MOST)])
      .catch(() => []);
    const terminated = rows[0]?.terminated ?? 0;
    if (terminated === 0) return;
    tally.add('terminated backend', terminated);
    log.tell({
      kind: 'fault',
      atMs,
      untilMs: log.nowMs,
      name: 'terminate',
      target: `${terminated} backends`,
    });
  }
}
