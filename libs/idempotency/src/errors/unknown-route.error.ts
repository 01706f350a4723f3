/** A stored request names a route that cannot be called: no controller has it, or several do. */
export class UnknownRouteError extends Error {
  /** Class and method, as `CheckoutController.checkout`. */
  readonly route: string;

  constructor(route: string, reason: string) {
    super(`${route}: ${reason}`);
    this.name = 'UnknownRouteError';
    this.route = route;
  }
}
