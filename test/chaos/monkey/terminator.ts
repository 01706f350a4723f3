import type { Random } from '../random.js';
import type { Hand, Workshop } from './hand.js';

/** Backends of instances, those at work first: that they are idle is what they are most of the time. */
const TERMINATE = `
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))::int AS terminated
  FROM (SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
           AND application_name = ''
           -- Not of an instance that has just started: it would end and be started again, which tries nothing.
           AND backend_start < clock_timestamp() - interval '600 milliseconds'
         ORDER BY state = 'idle', random()
         LIMIT $1) AS struck`;

const AT_MOST = 8;

/** Ends connections from the server's side. */
export class Terminator implements Hand {
  readonly name = 'terminate';

  async strike({ world, log, tally }: Workshop, random: Random): Promise<void> {
    const atMs = log.nowMs;
    const rows = await world.database
      .rows<{ terminated: number }>(TERMINATE, [random.int(1, AT_MOST)])
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
