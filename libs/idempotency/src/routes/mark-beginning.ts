import { isObservable, Observable } from 'rxjs';
import { type AttemptContext, currentContext, runInContext } from '../transaction/attempt-context.js';

type Method = (...args: unknown[]) => unknown;

const MARKED = Symbol.for('nestjs-pg-idempotency:marked');

/**
 * Replaces the controller method by one that tells the attempt that the handler begins: what fails before (pipes,
 * inner interceptors) has decided nothing about the request. Everything decorators said about the method goes along.
 */
export function markBeginning(
  controller: abstract new (...args: never[]) => unknown,
  name: string,
  method: Method,
): Method {
  if ((method as { [MARKED]?: true })[MARKED]) return method;
  const marked = function (this: unknown, ...args: unknown[]): unknown {
    const context = currentContext();
    const call = (): unknown => insideOf(method.apply(this, args), context);
    return context ? context.attempt.enter(context, call) : method.apply(this, args);
  };
  for (const key of Reflect.getMetadataKeys(method) as unknown[]) {
    Reflect.defineMetadata(key, Reflect.getMetadata(key, method), marked);
  }
  Object.defineProperties(marked, {
    ...Object.getOwnPropertyDescriptors(method),
    [MARKED]: { value: true },
  });
  Object.defineProperty(controller.prototype, name, { value: marked, writable: true, configurable: true });
  return marked;
}

/**
 * The work of an Observable is done when it is subscribed to, which is after the method has returned: it takes the
 * method's context along. What it emits goes back to whoever stands around the handler, and so to theirs.
 */
function insideOf(result: unknown, outside: AttemptContext | undefined): unknown {
  const inside = currentContext();
  if (!isObservable(result) || !inside || !outside) return result;
  const leave = (emit: () => void): void => runInContext(outside, emit);
  return new Observable((subscriber) =>
    runInContext(inside, () =>
      result.subscribe({
        next: (value) => leave(() => subscriber.next(value)),
        error: (error: unknown) => leave(() => subscriber.error(error)),
        complete: () => leave(() => subscriber.complete()),
      }),
    ),
  );
}
