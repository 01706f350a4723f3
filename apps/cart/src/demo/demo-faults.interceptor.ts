import { setTimeout as delay } from 'node:timers/promises';
import {
  BadRequestException,
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import type { IncomingHttpHeaders } from 'node:http';
import { mergeMap, type Observable } from 'rxjs';

/** Whether the demo headers work: never in production. */
export const DEMO_ENABLED = Symbol('DEMO_ENABLED');

const MAX_DELAY_MS = 10_000;

/**
 * For trying things out by hand. It wraps the handler alone, so what it does happens after the handler's write and
 * before the answer is complete: `X-Demo-Delay-Ms: 5000` keeps the request in flight that long,
 * `X-Demo-Fail: after-write` fails it there.
 */
@Injectable()
export class DemoFaultsInterceptor implements NestInterceptor {
  constructor(@Inject(DEMO_ENABLED) private readonly enabled: boolean) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (!this.enabled) return next.handle();
    const { headers } = context.switchToHttp().getRequest<{ headers: IncomingHttpHeaders }>();
    const delayMs = readDelay(headers['x-demo-delay-ms']);
    const fails = readFail(headers['x-demo-fail']);
    return next.handle().pipe(
      mergeMap(async (answer: unknown) => {
        if (delayMs > 0) await delay(delayMs);
        if (fails) throw new Error('X-Demo-Fail: after-write');
        return answer;
      }),
    );
  }
}

function readDelay(header: string | string[] | undefined): number {
  if (header === undefined) return 0;
  const delayMs = typeof header === 'string' && /^\d{1,5}$/.test(header) ? Number(header) : NaN;
  if (delayMs <= MAX_DELAY_MS) return delayMs;
  throw new BadRequestException(`X-Demo-Delay-Ms must be a whole number from 0 to ${MAX_DELAY_MS}`);
}

function readFail(header: string | string[] | undefined): boolean {
  if (header === undefined) return false;
  if (header === 'after-write') return true;
  throw new BadRequestException('X-Demo-Fail must be "after-write"');
}
