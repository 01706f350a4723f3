import http from 'node:http';

/** An answer as the wire had it. */
export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
  readonly json: <T = Record<string, unknown>>() => T;
}

export interface RequestOptions {
  readonly method?: string;
  /** Several values of one name become several header lines. */
  readonly headers?: Record<string, string | string[]>;
  /** An object is sent as JSON; text and bytes as they are. */
  readonly body?: unknown;
  readonly agent?: http.Agent;
  readonly timeoutMs?: number;
}

/** Sends one request over a real socket, on a connection of its own unless an agent is given. */
export function send(url: string, options: RequestOptions = {}): Promise<Answer> {
  const { method = 'POST', headers = {}, body, agent, timeoutMs = 30_000 } = options;
  const raw = body === undefined || typeof body === 'string' || Buffer.isBuffer(body);
  const payload = raw ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const request = http.request(
      url,
      {
        method,
        agent: agent ?? false,
        timeout: timeoutMs,
        headers: {
          ...(raw ? {} : { 'content-type': 'application/json' }),
          ...(payload === undefined ? {} : { 'content-length': Buffer.byteLength(payload) }),
          ...headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const bytes = Buffer.concat(chunks);
          const text = bytes.toString('utf8');
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: bytes,
            text,
            json: <T>() => JSON.parse(text) as T,
          });
        });
      },
    );
    request.on('timeout', () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    request.on('error', reject);
    request.end(payload);
  });
}

/** How many answers had which status: `{ 201: 1, 409: 199 }`. */
export function statuses(answers: readonly Answer[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}
