import { EventEmitter } from 'node:events';
import type { Client, QueryResult } from 'pg';
import { vi } from 'vitest';
import { Session } from '../../libs/idempotency/src/store/session.js';

/** What the server says to a statement: its rows, or an error. */
export type Answers = (text: string, values: readonly unknown[]) => Partial<QueryResult> | Promise<never>;

/** A connection whose server is a function. Real ones are exercised by the end-to-end tests. */
export class ScriptedClient extends EventEmitter {
  readonly sent: string[] = [];
  readonly values: unknown[][] = [];
  readonly connection = { stream: { destroy: vi.fn() } };

  constructor(
    private readonly answers: Answers = () => ({}),
    readonly pipeline = true,
  ) {
    super();
  }

  async query(text: string, values: unknown[] = []): Promise<Partial<QueryResult>> {
    this.sent.push(text);
    this.values.push(values);
    const answer = await this.answers(text, values);
    return { command: '', rows: [], rowCount: answer.rows?.length ?? 0, ...answer };
  }
}

/** A session on it, and what becomes of its connection. */
export function scriptedSession(answers?: Answers, pipeline?: boolean) {
  const client = new ScriptedClient(answers, pipeline);
  const giveBack = vi.fn<(error?: Error) => void>();
  return { client, giveBack, session: new Session(client as unknown as Client, giveBack) };
}
