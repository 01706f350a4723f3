import { Body, Controller, Headers, HttpException, Inject, Injectable, Post } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type Attempt, CurrentAttempt, type IdempotentRequest, Idempotent } from 'nestjs-pg-idempotency';
import { Repository } from 'typeorm';
import { LedgerEntry } from '../support/stage.js';
import { type Deferred, deferred } from '../support/until.js';
import { type Ending, MAX_ATTEMPTS, type Target } from './words.js';

/** Where a run of a handler is held: before it has done anything, or in its transaction, behind its first row. */
export type Place = 'start' | 'inside';

/** What holds one run, until it is let go. */
export interface Barrier {
  readonly place: Place;
  /** Resolved with the backend of the run's transaction, where it is in one. */
  readonly entered: Deferred<number>;
  readonly gate: Deferred;
}

/** What the handlers of all instances share: how often each key's was run, and where the next one is to be held. */
@Injectable()
export class Desk {
  readonly #runs = new Map<string, number>();
  readonly #barriers = new Map<string, Barrier>();

  runs(label: string): number {
    return this.#runs.get(label) ?? 0;
  }

  /** Holds the run of the request that names it. */
  barrier(name: string, place: Place): Barrier {
    const barrier = { place, entered: deferred<number>(), gate: deferred() };
    this.#barriers.set(name, barrier);
    return barrier;
  }

  enter(label: string): number {
    const run = this.runs(label) + 1;
    this.#runs.set(label, run);
    return run;
  }

  async pass(name: string | undefined, place: Place, backend: () => Promise<number>): Promise<void> {
    const barrier = name === undefined ? undefined : this.#barriers.get(name);
    if (barrier?.place !== place) return;
    barrier.entered.resolve(await backend());
    await barrier.gate.promise;
    // A transaction whose connection is gone is noticed by its next statement.
    await backend();
  }
}

/** The fields of a request that are no part of its fingerprint; header names are in small letters. */
export interface OrderHeaders {
  /** A name for the run of the test and the user's own, with a space between. */
  readonly 'x-scope': string;
  readonly 'x-ending': Ending;
  readonly 'x-barrier'?: string;
}

/** The body. */
export interface Order extends Omit<Target, 'user'> {
  readonly amount: number;
}

/** One call of a handler. */
interface Visit {
  readonly order: Order;
  readonly user: string;
  readonly ending: Ending;
  readonly run: number;
  write(what: string): Promise<void>;
  pass(place: Place): Promise<void>;
}

/** Names a user's key in the ledger. */
export const labelOf = (scope: string, key: string): string => `${scope} ${key}`;

const scope = (request: IdempotentRequest): string => String(request.headers['x-scope']);

/** Takes orders on three routes, and comes to the end that the request asks for. */
@Controller('orders')
export class OrdersController {
  constructor(
    @Inject(Desk) private readonly desk: Desk,
    @InjectRepository(LedgerEntry) private readonly ledger: Repository<LedgerEntry>,
  ) {}

  @Post('transaction')
  @Idempotent({ scope, maxAttempts: MAX_ATTEMPTS })
  async order(@Headers() headers: OrderHeaders, @Body() order: Order): Promise<object> {
    const { user, ending, run, pass, write } = this.#visit(headers, order);
    await pass('start');
    if (ending === 'fail') throw new Error(`run ${run} fails`);
    await write('write');
    await pass('inside');
    if (ending === 'break') throw new Error(`run ${run} breaks`);
    if (ending === 'refuse') throw new HttpException({ refused: run }, 402);
    return { user, ...order, run };
  }

  @Post('lease')
  @Idempotent({ scope, mode: 'lease' })
  lease(
    @Headers() headers: OrderHeaders,
    @Body() order: Order,
    @CurrentAttempt() attempt: Attempt,
  ): Promise<object> {
    return this.#charge(this.#visit(headers, order), attempt);
  }

  @Post('undecided')
  @Idempotent({ scope, mode: 'lease', onAbandoned: 'fail' })
  undecided(
    @Headers() headers: OrderHeaders,
    @Body() order: Order,
    @CurrentAttempt() attempt: Attempt,
  ): Promise<object> {
    return this.#charge(this.#visit(headers, order), attempt);
  }

  /** A phase, and a step whose effect is a row that is written beside every transaction. */
  async #charge({ order, user, ending, run, pass, write }: Visit, attempt: Attempt): Promise<object> {
    await pass('start');
    if (ending === 'fail') throw new Error(`run ${run} fails`);
    const reserved = await attempt.phase('reserve', async () => {
      await write('reserve');
      await pass('inside');
      return run;
    });
    if (ending === 'refuse') throw new HttpException({ refused: run }, 402);
    await attempt.step('charge', async () => {
      await write('charge');
      if (ending === 'break') throw new Error(`run ${run} breaks`);
    });
    return { user, ...order, run, reserved };
  }

  #visit(headers: OrderHeaders, order: Order): Visit {
    const { desk, ledger } = this;
    const label = labelOf(headers['x-scope'], order.key);
    const run = desk.enter(label);
    const backend = async (): Promise<number> => {
      const [row] = await ledger.query<[{ pid: number }]>('SELECT pg_backend_pid() AS pid');
      return row.pid;
    };
    return {
      order,
      user: String(headers['x-scope'].split(' ')[1]),
      ending: headers['x-ending'],
      run,
      write: async (what) => void (await ledger.insert({ label, note: `${what} ${run}` })),
      pass: (place) => desk.pass(headers['x-barrier'], place, backend),
    };
  }
}
