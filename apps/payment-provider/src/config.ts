/** Everything the provider takes from its environment. */
export interface ProviderConfig {
  readonly port: number;
  readonly host: string;
  /** `undefined`: the charges end with the process. */
  readonly ledgerFile: string | undefined;
}

/** The provider cannot work with its environment; the message names the variable, its value and the fix. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Reads the configuration. An empty variable counts as absent.
 *
 * @throws ConfigError naming all bad variables at once.
 */
export function readConfig(env: NodeJS.ProcessEnv): ProviderConfig {
  const problems: string[] = [];
  const read = <T>(name: string, fallback: T, parse: (text: string) => T | undefined, fix: string): T => {
    const text = env[name]?.trim();
    if (text === undefined || text === '') return fallback;
    const value = parse(text);
    if (value === undefined) problems.push(problem(name, text, fix));
    return value ?? fallback;
  };

  const config: ProviderConfig = {
    port: read('PROVIDER_PORT', 3001, portNumber, 'use a whole number from 0 to 65535.'),
    // There is no sign-in here: whoever reaches the port charges, and sets faults.
    host: read(
      'PROVIDER_HOST',
      '127.0.0.1',
      hostName,
      'use an address to listen on, as 127.0.0.1 or 0.0.0.0.',
    ),
    ledgerFile: read<string | undefined>('PROVIDER_LEDGER', undefined, (text) => text, ''),
  };
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  return config;
}

/** What to tell about a ledger file that cannot be used. */
export function ledgerFailure(reason: string, { ledgerFile = '' }: ProviderConfig): ConfigError {
  const fix = `${reason}. Use a file that this user may write, in a directory that exists, or unset it.`;
  return new ConfigError(problem('PROVIDER_LEDGER', ledgerFile, fix));
}

/** What to tell about an address that cannot be listened on; any other error comes back as it is. */
export function listenFailure(error: unknown, { port, host }: ProviderConfig): unknown {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  switch (code) {
    case 'EADDRINUSE':
      return new ConfigError(
        `PROVIDER_PORT is ${port}: that port of ${host} is taken. ` +
          'Stop what listens there, or use another: PROVIDER_PORT=3002 npm run start:provider',
      );
    case 'EACCES':
      return new ConfigError(
        `PROVIDER_PORT is ${port}: this user may not listen there. ` +
          'Use one above 1023: PROVIDER_PORT=3001 npm run start:provider',
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new ConfigError(
        problem('PROVIDER_HOST', host, 'this machine has no such address. Use 127.0.0.1 or 0.0.0.0.'),
      );
    default:
      return error;
  }
}

function problem(name: string, text: string, fix: string): string {
  return `${name} is ${JSON.stringify(text)}: ${fix}`;
}

function portNumber(text: string): number | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined;
}

function hostName(text: string): string | undefined {
  return /^[\w.:%-]+$/.test(text) ? text : undefined;
}
