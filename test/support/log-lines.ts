import { Logger } from '@nestjs/common';
import { vi } from 'vitest';

/** Everything that Nest's loggers say from now on, as `level: text`, in place of the console. */
export function logLines(): string[] {
  const lines: string[] = [];
  for (const level of ['log', 'warn', 'error'] as const) {
    vi.spyOn(Logger.prototype, level).mockImplementation((...said: unknown[]) => {
      lines.push(`${level}: ${String(said[0])}`);
    });
  }
  return lines;
}
