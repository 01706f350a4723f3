import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { defer, type Observable, retry, timeout } from 'rxjs';

/** Gives up on the handler's first run, which goes on, and runs it again. */
export class ImpatientInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    let runs = 0;
    const once = defer(() => (runs++ === 0 ? next.handle().pipe(timeout({ first: 100 })) : next.handle()));
    return once.pipe(retry(1));
  }
}
