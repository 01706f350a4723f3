import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { askLine, LOOPBACK, runLocally, type LocalServer, type LocalServerOptions } from './local-server.js';
import { render } from './render.js';
import { until } from './until.js';

export interface NginxServer extends LocalServer {
  readonly url: string;
  /** Changes the instances behind it. Resolves when no process takes requests for the earlier ones any more. */
  reload(instances: readonly string[]): Promise<void>;
}

export interface NginxOptions extends LocalServerOptions {
  /** Addresses of the instances, as `http://127.0.0.1:3000`. */
  readonly instances: readonly string[];
  /** How long an instance may take to answer, as nginx writes it. @default '60s' */
  readonly answerTimeout?: string;
}

/** The file in its folder with one line for each request: method, path, status, seconds, instances tried, their answers. */
export const ACCESS_LOG = 'access.log';

/** An nginx with the configuration of `deploy/nginx.conf.template`. */
export async function startNginx({
  instances,
  answerTimeout = '60s',
  ...options
}: NginxOptions): Promise<NginxServer> {
  const configure = (folder: string, port: number, servers: readonly string[]): string => {
    const file = join(folder, 'nginx.conf');
    writeFileSync(
      file,
      render('nginx.conf.template', {
        NGINX_DIR: folder,
        NGINX_LISTEN: `${LOOPBACK}:${port}`,
        NGINX_ACCESS_LOG: join(folder, ACCESS_LOG),
        NGINX_ANSWER_TIMEOUT: answerTimeout,
        CART_SERVERS: upstreamServers(servers),
      }),
    );
    return file;
  };
  // Its workers give up root for an account that cannot write here; and only root may say who they are.
  const user = process.getuid?.() === 0 ? ' user root;' : '';
  const server = await runLocally({
    ...options,
    program: 'nginx',
    prepare: ({ folder, ports: [port] }) => {
      const config = configure(folder, port as number, instances);
      return ['-e', 'stderr', '-p', folder, '-c', config, '-g', `daemon off;${user}`];
    },
    // What is no request at all it answers by itself, without an instance.
    isReady: async (port) => (await askLine(port, '?')).includes('400 Bad Request'),
  });
  return {
    ...server,
    url: `http://${LOOPBACK}:${server.port}`,
    reload: async (servers) => {
      configure(server.folder, server.port, servers);
      const before = server.output().length;
      server.signal('SIGHUP');
      await until('nginx has changed its instances', () => {
        const since = server.output().slice(before);
        if (since.includes('[emerg]')) throw new Error(`nginx keeps its instances:\n${since}`);
        return isHandedOver(since);
      });
    },
  };
}

/** The lines of an upstream, for instances by their addresses. */
export function upstreamServers(instances: readonly string[]): string {
  return instances.map((url) => `server ${new URL(url).host} max_fails=0;`).join('\n    ');
}

/** New workers are up, and as many old ones say that they listen no more. */
function isHandedOver(output: string): boolean {
  const started = output.match(/start worker process \d+/g)?.length ?? 0;
  const ended = output.match(/gracefully shutting down/g)?.length ?? 0;
  return started > 0 && ended >= started;
}
