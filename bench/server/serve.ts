import { answerCommands } from './commands.js';

/** What an application of any version of NestJS can do. */
interface Application {
  listen(port: number, host: string): Promise<unknown>;
  getUrl(): Promise<string>;
}

/** Listens, tells the parent process the address, answers its commands, and ends with it. */
export async function serve(app: Application): Promise<void> {
  await app.listen(0, '127.0.0.1');
  answerCommands();
  process.on('disconnect', () => process.exit());
  process.send?.({ url: (await app.getUrl()).replace('[::1]', '127.0.0.1') });
}
