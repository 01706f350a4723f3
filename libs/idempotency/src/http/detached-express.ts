import {
  copyOf,
  type DetachedRequest,
  openRaw,
  type OpenExchange,
  type StoredRequest,
} from './detached-exchange.js';

/** The part of an Express application that its requests and responses are made with. */
interface ExpressApplication {
  readonly request: object;
  readonly response: object;
  readonly router?: { readonly stack?: readonly ExpressLayer[] };
}

interface ExpressLayer {
  readonly route?: ExpressRoute;
}

interface ExpressRoute {
  readonly path?: unknown;
  readonly stack?: readonly { readonly handle: { readonly name: string } }[];
}

/** All of them end in `end()`, some of them in a later turn, where an error would be nobody's. */
const ANSWERING = ['send', 'json', 'jsonp', 'sendStatus', 'sendFile', 'download', 'render', 'redirect'];

/** What `app.handle()` of Express makes of a request before the route has it. */
export function expressExchanges(application: unknown): OpenExchange {
  const app = application as ExpressApplication;
  return async (stored) => {
    const { request, response, refuse, close } = await openRaw(stored);
    Object.setPrototypeOf(request, app.request);
    Object.setPrototypeOf(response, app.response);
    const { params, query, body } = copyOf(stored);
    const own = {
      params,
      // A getter of the prototype reads the url.
      query,
      body,
      originalUrl: stored.url,
      baseUrl: '',
      res: response,
      route: routeOf(app, stored),
    };
    for (const [name, value] of Object.entries(own)) {
      Object.defineProperty(request, name, { value, writable: true, enumerable: true, configurable: true });
    }
    refuse(request, ['next']);
    Object.assign(response, { req: request, locals: Object.create(null) as object });
    refuse(response, ANSWERING);
    return { request: request as unknown as DetachedRequest, response, close };
  };
}

/** The route as Express has it, for what reads `request.route.path`. Nest names its handlers after class and method. */
function routeOf(app: ExpressApplication, { route: name, pattern }: StoredRequest): ExpressRoute | undefined {
  const named = (app.router?.stack ?? [])
    .map(({ route }) => route)
    .filter((route) => route?.stack?.some(({ handle }) => handle.name === name));
  if (pattern === undefined) return named[0];
  // A method may have several paths.
  return named.find((route) => route?.path === pattern) ?? { path: pattern };
}
