import { setTimeout as pause } from 'node:timers/promises';
import { Body, ConflictException, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { type Attempt, CurrentAttempt, Idempotent } from 'nestjs-pg-idempotency';
import { Ledger, type LedgerAnswer } from './ledger.js';
import { ProviderClient } from './provider.client.js';

/** The body of each request: what it asks for, and how its handler is to behave. */
export interface Order {
  readonly payload: string;
  /**
   * `refuse`: the handler writes and then decides on an error, which is final and takes the row back. `stumble`: its first attempt
   * writes and then fails, so that a retry runs again. `linger`: in lease mode its step takes longer than a heartbeat.
   */
  readonly behaviour: 'succeed' | 'refuse' | 'stumble' | 'linger';
}

/** A heartbeat is due after a third of the lease, which is a second. */
const LINGER_MS = 450;

const scope = (request: { params: Record<string, string> }): string => request.params['owner'] ?? '';

@Controller('ledger/:owner')
export class LedgerController {
  constructor(
    private readonly ledger: Ledger,
    private readonly provider: ProviderClient,
  ) {}

  @Post('transaction')
  @Idempotent({ scope })
  async inTransaction(@Body() order: Order, @CurrentAttempt() attempt: Attempt): Promise<LedgerAnswer> {
    const answer = await this.write('transaction', order, attempt);
    if (order.behaviour === 'refuse') throw new ConflictException({ ...answer, message: 'refused' });
    if (order.behaviour === 'stumble' && attempt.number === 1) throw new Error('stumbled');
    return answer;
  }

  @Post('lease-retry')
  @Idempotent({ scope, mode: 'lease', onAbandoned: 'retry' })
  async retried(@Body() order: Order, @CurrentAttempt() attempt: Attempt): Promise<LedgerAnswer> {
    return this.charge('lease-retry', 'retry', order, attempt);
  }

  @Post('lease-fail')
  @Idempotent({ scope, mode: 'lease', onAbandoned: 'fail' })
  async decidedByPeople(@Body() order: Order, @CurrentAttempt() attempt: Attempt): Promise<LedgerAnswer> {
    return this.charge('lease-fail', 'fail', order, attempt);
  }

  /** Nothing protects it; it shares the process and the pool. */
  @Get('bystander')
  @HttpCode(200)
  async bystander(@Param('owner') owner: string): Promise<{ owner: string }> {
    await this.ledger.look();
    return { owner };
  }

  private async charge(
    route: string,
    onAbandoned: 'retry' | 'fail',
    order: Order,
    attempt: Attempt,
  ): Promise<LedgerAnswer> {
    await attempt.step('charge', async () => {
      if (order.behaviour === 'linger') await pause(LINGER_MS);
      const { key, scope: owner, number } = attempt;
      const downstreamKey = attempt.downstreamKey('charge');
      const operation = operationOf(route);
      return this.provider.charge(
        { scope: owner, operation, key, attempt: number, downstreamKey, onAbandoned },
        attempt.signal,
      );
    });
    return attempt.phase('write', () => this.write(route, order, attempt));
  }

  private async write(route: string, { payload }: Order, attempt: Attempt): Promise<LedgerAnswer> {
    const { scope: owner, key, number } = attempt;
    return this.ledger.write({
      scope: owner,
      operation: operationOf(route),
      key,
      payload,
      attempt: number,
    });
  }
}

/** As the library names it in the record. */
const operationOf = (route: string): string => `POST /ledger/:owner/${route}`;
