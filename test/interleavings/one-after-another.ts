import type { Client } from 'pg';
import type { Session } from '../../libs/idempotency/src/store/session.js';
import { Actor } from './actor.js';
import type { Ground } from './ground.js';
import { Player } from './player.js';
import type { Scenario } from './scenario.js';
import { statementNames } from './statement-names.js';
import { Subject } from './subject.js';
import { TidySession } from './tidy-session.js';

/** On the library's own session: nothing is taken apart. */
class PlainPlayer extends Player {
  protected override sessionOn(client: Client, giveBack: () => void): Session {
    return new TidySession(client, giveBack, this.ground.prepared);
  }
}

/** What each session of a scenario sends, by name and as the server gets it, when one plays after the other. */
export async function sentOneAfterAnother<Prepared>(
  ground: Ground,
  { parts, prepare }: Scenario<Prepared>,
): Promise<Record<string, string[]>> {
  const subject = new Subject();
  const cast: Record<string, Player> = {};
  const wires: Record<string, string[]> = {};
  for (const name of Object.keys(parts)) {
    const connection = await ground.connection(name);
    const actor = new Actor(name, () => undefined);
    cast[name] = new PlainPlayer(actor, subject, ground, connection, 'message');
    wires[name] = connection.wire;
  }
  const prepared = (await prepare?.(cast, ground)) as Prepared;
  for (const wire of Object.values(wires)) wire.length = 0;
  for (const [name, { play }] of Object.entries(parts)) {
    await cast[name]?.perform((self) => play(self, prepared));
  }
  await ground.clear(subject);
  return named(ground, wires);
}

/** The statements by their names in the library; the only one without is the handler's. */
export function named(
  { table, ledger }: Ground,
  sent: Readonly<Record<string, readonly string[]>>,
): Record<string, string[]> {
  const nameOf = statementNames(table);
  const name = (text: string): string => {
    const found = nameOf(text);
    if (found !== undefined) return found;
    // What is sent to wait for the standbys has no name outside its module.
    if (text.includes('pg_logical_emit_message')) return 'MARK';
    if (!text.startsWith(`INSERT INTO ${ledger} `)) throw new Error(`nobody knows this statement: ${text}`);
    return 'the effect';
  };
  return Object.fromEntries(Object.entries(sent).map(([session, texts]) => [session, texts.map(name)]));
}
