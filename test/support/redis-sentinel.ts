import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LOOPBACK, runLocally, type LocalServer } from '../../deploy/local/local-server.js';
import { startAll } from '../../deploy/local/redis-server.js';
import { DEPLOY } from '../../deploy/local/render.js';
import { askLine } from './topology.js';
import { until } from './until.js';

/** A master, its replica and the Sentinels that watch them. */
export interface RedisGroup {
  readonly name: string;
  /** The one that was the master at the beginning. */
  readonly master: LocalServer;
  readonly replica: LocalServer;
  readonly sentinels: readonly LocalServer[];
  /** Port of the master that the first running Sentinel names. */
  masterPort(): Promise<number>;
  stop(): Promise<void>;
}

const NAME = 'mymaster';

export async function startRedisGroup({ sentinels: count = 3 } = {}): Promise<RedisGroup> {
  const servers: LocalServer[] = [];
  const stop = async (): Promise<void> => void (await Promise.all(servers.map((server) => server.stop())));
  try {
    const master = await startMember();
    servers.push(master);
    const replica = await startMember(['--replicaof', LOOPBACK, String(master.port)]);
    servers.push(replica);
    await until('the replica follows', async () =>
      (await askLine(replica.port, 'INFO replication')).includes('master_link_status:up'),
    );
    const sentinels = await startAll(count, () => startSentinel(master.port, Math.floor(count / 2) + 1));
    servers.push(...sentinels);
    for (const { port } of sentinels) {
      await until(
        'the Sentinel knows the replica and the others',
        async () => {
          const known = await askLine(port, 'INFO sentinel');
          return known.includes(`slaves=1,sentinels=${count}`);
        },
        20_000,
      );
    }
    const masterPort = async (): Promise<number> => {
      const sentinel = sentinels.find((server) => server.isRunning()) as LocalServer;
      const answer = await askLine(sentinel.port, `SENTINEL get-master-addr-by-name ${NAME}`);
      return Number(answer.split('\r\n')[4]);
    };
    return { name: NAME, master, replica, sentinels, masterPort, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function startMember(args: readonly string[] = []): Promise<LocalServer> {
  return runLocally({
    program: 'redis-server',
    prepare: ({ folder, ports: [port] }) => {
      // A Sentinel has a server write into its configuration whom it follows.
      const path = join(folder, 'redis.conf');
      copyFileSync(join(DEPLOY, 'redis.conf'), path);
      const address = [
        '--port',
        String(port),
        '--bind',
        LOOPBACK,
        '--dir',
        folder,
        '--cluster-enabled',
        'no',
      ];
      // The first copy to a replica is sent without waiting for a second replica.
      return [path, ...address, '--repl-diskless-sync-delay', '0', ...args];
    },
    isReady: async (port) => (await askLine(port, 'PING')).startsWith('+PONG'),
  });
}

function startSentinel(masterPort: number, quorum: number): Promise<LocalServer> {
  return runLocally({
    program: 'redis-sentinel',
    prepare: ({ folder, ports: [port] }) => {
      // It writes into its configuration what it learns.
      const path = join(folder, 'sentinel.conf');
      const lines = [
        `port ${port}`,
        `bind ${LOOPBACK}`,
        `dir ${folder}`,
        `sentinel monitor ${NAME} ${LOOPBACK} ${masterPort} ${quorum}`,
        `sentinel down-after-milliseconds ${NAME} 1000`,
        `sentinel failover-timeout ${NAME} 3000`,
      ];
      writeFileSync(path, `${lines.join('\n')}\n`);
      return [path];
    },
    isReady: async (port) => (await askLine(port, 'PING')).startsWith('+PONG'),
  });
}
